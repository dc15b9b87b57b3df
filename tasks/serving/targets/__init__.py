"""What runs the servers of model versions: processes or containers."""
