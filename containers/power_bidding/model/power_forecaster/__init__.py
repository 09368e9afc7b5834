"""Forecasts of hourly electricity prices, and what a storage asset bids by them."""
