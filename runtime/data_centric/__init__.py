"""The labeling workflow's Lambda code. See README.md."""
