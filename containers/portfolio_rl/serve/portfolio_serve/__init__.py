"""Answers orders from an exported policy."""
