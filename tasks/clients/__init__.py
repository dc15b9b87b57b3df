"""The servers that we talk to: PostgreSQL, object store, MLflow, Airflow, and named connections."""
