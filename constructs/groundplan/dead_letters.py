from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from groundplan.permissions import acknowledge


def dead_letters(scope: Construct, id: str, *, key: kms.IKey | None = None) -> sqs.Queue:
    """Create a dead-letter queue with a retention of 14 days. EventBridge may also send messages to it.

    :param key: encrypts the messages. Default: SQS's own encryption, which costs nothing.
    """
    queue = sqs.Queue(
        scope,
        id,
        encryption=sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED,
        encryption_master_key=key,
        enforce_ssl=True,
        retention_period=Duration.days(14),
    )
    # EventBridge sends undeliverable events to the queue; functions have separate grants. No condition on
    # aws:SourceAccount or aws:SourceArn: the SNS Developer Guide says that EventBridge does not support
    # these keys in the key policy of an encrypted topic, and no documentation says that it sends them
    # with messages to a queue. The queue's policy names the rules that may write to it.
    # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    if key:
        key.grant(iam.ServicePrincipal("events.amazonaws.com"), "kms:Decrypt", "kms:GenerateDataKey*")
    acknowledge(queue, {"AwsSolutions-SQS3": "It is the queue of dead letters itself."})
    return queue
