"""Bids for storage from four feeds, every hour: the code that AWS Lambda runs. See README.md."""
