"""The functions: each parses its event, calls `core` with adapters of `aws`, and returns."""
