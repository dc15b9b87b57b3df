"""What a model is: preparation, families, fitting, metrics, threshold, and how MLflow stores it."""
