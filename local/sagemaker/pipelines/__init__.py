"""Pipelines: definitions, and executions that run their steps."""
