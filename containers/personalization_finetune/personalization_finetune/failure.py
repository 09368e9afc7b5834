"""What went wrong, as a sentence for the person who can do something about it."""


class Failure(Exception):
    """A problem of the whole job, for who started it. Its text is the job's failure reason."""


class TaskFailure(Exception):
    """A problem of one task, for its user: says what is wrong with what they sent, and what to do."""


class Stopped(BaseException):
    """SIGTERM came. Not an `Exception`, so that nothing on the way up takes it for a failure."""
