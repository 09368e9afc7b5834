"""An HTTP server that returns the orders of an exported policy."""
