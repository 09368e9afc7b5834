"""The clients of the sources: one module per API."""
