"""Implementations, on AWS, of the interfaces that `core` defines."""
