"""Clients of the sources, one module for each API."""
