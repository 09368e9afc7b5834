"""Adapters that implement the ports of `core` on AWS."""
