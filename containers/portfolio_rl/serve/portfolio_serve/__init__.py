"""Serve orders of an exported policy."""
