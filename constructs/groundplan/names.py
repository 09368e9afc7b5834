from __future__ import annotations

from aws_cdk import Stack, Token
from constructs import Construct

LONGEST_SAGEMAKER_NAME = 63
"""Maximum length of the name of an endpoint, model, model package group, training job or notebook."""


class NameTooLongError(ValueError):
    """A name is too long for the suffix that is appended to it. The message has the maximum length."""


def physical_name(scope: Construct, given: str = "", *, appended: int = 0) -> str:
    """Return `given`, or else the stack's name, which lets an account have several stacks of one kind.

    :param given: the caller's name; empty: the stack's name.
    :param appended: maximum length of the suffix that is appended later, such as a job's number.

    Raises `NameTooLongError`, or `ValueError` if the stack's name is not known at synthesis.
    """
    name = given or Stack.of(scope).stack_name
    if Token.is_unresolved(name):
        raise ValueError(f"{scope.node.path}: a nested stack gets its name when it is deployed; pass a name")
    longest = LONGEST_SAGEMAKER_NAME - appended
    if len(name) > longest:
        raise NameTooLongError(
            f"{scope.node.path}: the name must have at most {longest} characters, because up to"
            f" {appended} are appended; {name} has {len(name)}. Choose a shorter name, here or for the stack"
        )
    return name
