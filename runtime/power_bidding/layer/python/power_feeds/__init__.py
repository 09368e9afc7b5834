"""What the feeds of `power_bidding` share: hours, rows, quality checks, interpolation, clients of the
sources.

A Lambda layer of our own: the standard library and urllib3, which AWS's Python brings.
"""
