"""Shared code of the feeds of `power_bidding`: hours, rows, quality checks, interpolation, source clients.

It is a Lambda layer and uses only the standard library and urllib3, which Lambda's Python runtime includes.
"""
