"""The trials of a search: the rows, their ranking, the leaderboard, their child runs in MLflow."""
