"""Forecasts of hourly electricity prices, and bids of a storage asset based on them."""
