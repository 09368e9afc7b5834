from __future__ import annotations

from aws_cdk import RemovalPolicy


def removal(retain: bool) -> RemovalPolicy:
    """Return what becomes of a resource that holds data when it leaves its stack.

    A retained one is still deleted when the deployment that creates it fails: it holds nothing yet, and under
    a physical name it would block the next attempt (`DeletionPolicy: RetainExceptOnCreate`).
    """
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if retain else RemovalPolicy.DESTROY
