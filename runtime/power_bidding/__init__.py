"""Hourly bids for storage from four feeds: the Lambda code. See README.md."""
