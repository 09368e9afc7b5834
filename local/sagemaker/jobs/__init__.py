"""Shared code of training, processing and transform jobs."""
