"""The work of the MLOps workflow. Nothing here imports Airflow."""
