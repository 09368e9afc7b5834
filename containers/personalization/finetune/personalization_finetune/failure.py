"""Failure of a single task."""


class TaskError(Exception):
    """A task failed because of its input. The message tells its user what is wrong and what to do."""
