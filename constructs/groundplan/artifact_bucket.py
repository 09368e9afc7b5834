from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from groundplan.permissions import acknowledge, allow
from groundplan.removal import removal

EXPIRE = {"checkpoints": 30, "evaluation": 90}


class ArtifactBucket(Construct):
    """A private, encrypted bucket for what training leaves behind, with grants on single folders.

    :param key: encrypts the objects. Default: S3's own keys, which cost nothing.
    :param retain: whether the bucket and its objects outlive the stack. Default: False; whoever deletes the
        stack must empty the bucket first, which `CleanUp` does.
    :param expire: after how many days the objects of a folder are deleted. Default: `checkpoints` after 30,
        `evaluation` after 90; models under `training` stay, for a registry points at them.
    :param events: whether EventBridge is told of every object that is written. Default: False.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        key: kms.IKey | None = None,
        retain: bool = False,
        expire: Mapping[str, int] = EXPIRE,
        events: bool = False,
    ) -> None:
        super().__init__(scope, id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.KMS if key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=key,
            bucket_key_enabled=True if key else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=removal(retain),
            lifecycle_rules=[
                *(
                    s3.LifecycleRule(id=folder, prefix=f"{folder}/", expiration=Duration.days(days))
                    for folder, days in expire.items()
                ),
                s3.LifecycleRule(id="unfinished", abort_incomplete_multipart_upload_after=Duration.days(7)),
            ],
        )
        """The bucket itself."""
        if events:
            # The L2 construct would have a function of the CDK's do it, which may change every bucket
            resource = self.bucket.node.default_child
            assert isinstance(resource, s3.CfnBucket)  # noqa: S101 - narrows the type
            resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
                event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                    event_bridge_enabled=True
                )
            )
        self.key = key
        acknowledge(
            self.bucket,
            {
                "AwsSolutions-S1": "Access logs need a second bucket that only grows. CloudTrail data events"
                " record the same calls where an account wants them.",
            },
        )

    def url(self, folder: str) -> str:
        """The address of a folder, such as `s3://bucket/training`."""
        return self.bucket.s3_url_for_object(folder)

    def grant_read(self, role: iam.Role, folder: str) -> None:
        """Let `role` read and list one folder."""
        self._grant(role, folder, ["s3:GetObject"])
        if self.key:
            self.key.grant_decrypt(role)

    def grant_write(self, role: iam.Role, folder: str) -> None:
        """Let `role` write and list one folder. It cannot delete there."""
        self._grant(role, folder, ["s3:PutObject", "s3:AbortMultipartUpload"])
        if self.key:
            # A multipart upload is read back to be joined
            self.key.grant(role, "kms:Encrypt", "kms:GenerateDataKey", "kms:Decrypt")

    def _grant(self, role: iam.Role, folder: str, actions: list[str]) -> None:
        allow(
            role,
            *actions,
            on=[self.bucket.arn_for_objects(f"{folder}/*")],
            because="Objects are named when they are written; the folder is the grant.",
        )
        allow(role, "s3:ListBucket", "s3:GetBucketLocation", on=[self.bucket.bucket_arn])
