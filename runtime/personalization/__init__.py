"""A generative model for every user: the code that AWS Lambda runs. See README.md."""
