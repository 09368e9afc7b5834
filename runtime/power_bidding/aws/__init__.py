"""The adapters: what the ports of `core` are on AWS."""
