"""Labels for training data: the code that AWS Lambda runs. See README.md."""
