"""Handlers of the Lambda functions. Each parses its event and calls `core` with the adapters of `aws`."""
