from __future__ import annotations

from aws_cdk import RemovalPolicy


def removal(retain: bool) -> RemovalPolicy:
    """Return the removal policy of a resource with data.

    A retained resource is still deleted if the deployment that creates it fails: it has no data yet, and its
    physical name would block the next deployment (`DeletionPolicy: RetainExceptOnCreate`).
    """
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if retain else RemovalPolicy.DESTROY
