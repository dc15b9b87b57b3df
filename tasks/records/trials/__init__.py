"""The trials of a search: counts, ranking, leaderboard, and their child runs in MLflow."""
