from __future__ import annotations

from aws_cdk import Stack, Token
from constructs import Construct

LONGEST_SAGEMAKER_NAME = 63
"""Characters in the name of an endpoint, model, model package group, training job or notebook instance."""


class NameTooLongError(ValueError):
    """A name leaves no room for what is appended to it; the message says how long it may be."""


def physical_name(scope: Construct, given: str = "", *, appended: int = 0) -> str:
    """Return `given`, or the stack's name, so that two stacks of one kind stand side by side in an account.

    :param given: a name that the caller chose; empty for the stack's.
    :param appended: how many characters are put behind the name later on, such as a job's number.

    Raises `NameTooLongError`, or `ValueError` when the stack's own name is not known at synthesis.
    """
    name = given or Stack.of(scope).stack_name
    if Token.is_unresolved(name):
        raise ValueError(f"{scope.node.path}: a nested stack gets its name when it is deployed; pass a name")
    longest = LONGEST_SAGEMAKER_NAME - appended
    if len(name) > longest:
        raise NameTooLongError(
            f"{scope.node.path}: the name must have at most {longest} characters, for up to {appended} are"
            f" appended to it; {name} has {len(name)}. Choose another name, or a shorter one for the stack"
        )
    return name
