"""Adapters: implementations of the interfaces of `core` on AWS."""
