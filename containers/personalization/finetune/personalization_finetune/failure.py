"""Failure of a single task."""


class TaskError(Exception):
    """A task failed because of its input. The message for the user has the error and the remedy."""
