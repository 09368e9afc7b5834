"""What went wrong with one task of many."""


class TaskFailure(Exception):
    """A problem of one task, for its user: says what is wrong with what they sent, and what to do."""
