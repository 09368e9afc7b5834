from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from groundplan.permissions import acknowledge, allow
from groundplan.removal import removal

EXPIRE = {"checkpoints": 30, "evaluation": 90}


class ArtifactBucket(Construct):
    """A private, encrypted bucket for training artifacts, with grants on single folders.

    :param bucket: an existing bucket; only `key` may be given with it. Default: a new one.
    :param key: encrypts the objects. Default: S3's own keys, which cost nothing, or the key of `bucket`.
    :param retain: whether the bucket and its objects remain when the stack is deleted. Default: False; the
        bucket must then be empty before the deletion, and `CleanUp` empties it.
    :param expire: for each folder, the number of days after which its objects are deleted.
        Default: 30 for `checkpoints`, 90 for `evaluation`. Models under `training` are kept, as a registry
        refers to them.
    :param events: whether S3 sends an event to EventBridge for every object written. Default: False.
    :param cors: CORS rules for web pages that call the bucket. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        bucket: s3.IBucket | None = None,
        key: kms.IKey | None = None,
        retain: bool = False,
        expire: Mapping[str, int] = EXPIRE,
        events: bool = False,
        cors: Sequence[s3.CorsRule] = (),
    ) -> None:
        super().__init__(scope, id)
        if bucket and (retain or events or cors or expire is not EXPIRE):
            raise ValueError("retain, expire, events and cors must not be given with an existing bucket")
        self.key = key or (bucket.encryption_key if bucket else None)
        """The KMS key that encrypts the objects; None if they are encrypted with S3's own keys."""
        self.bucket: s3.IBucket = bucket or self._new(retain, expire, events, cors)
        """The bucket, new or existing."""

    def _new(
        self, retain: bool, expire: Mapping[str, int], events: bool, cors: Sequence[s3.CorsRule]
    ) -> s3.Bucket:
        key = self.key
        bucket = s3.Bucket(
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
            cors=list(cors) or None,
            lifecycle_rules=[
                *(
                    s3.LifecycleRule(id=folder, prefix=f"{folder}/", expiration=Duration.days(days))
                    for folder, days in expire.items()
                ),
                s3.LifecycleRule(id="unfinished", abort_incomplete_multipart_upload_after=Duration.days(7)),
            ],
        )
        if events:
            # Set on the L1 resource, because the L2 prop adds a custom resource whose Lambda function may
            # change the notifications of every bucket
            resource = bucket.node.default_child
            assert isinstance(resource, s3.CfnBucket)  # noqa: S101 - narrows the type
            resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
                event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                    event_bridge_enabled=True
                )
            )
        acknowledge(
            bucket,
            {
                "AwsSolutions-S1": "Access logs need a second bucket that only grows. CloudTrail data events"
                " record the same calls where an account wants them.",
            },
        )
        return bucket

    def url(self, folder: str) -> str:
        """Return the URI of a folder, such as `s3://bucket/training`."""
        return self.bucket.s3_url_for_object(folder)

    def grant_read(self, grantee: iam.IGrantable, folder: str) -> iam.Grant:
        """Let `grantee` read one folder, and list the bucket."""
        grant = self._grant(grantee, folder, ["s3:GetObject"])
        return grant.combine(self.key.grant_decrypt(grantee)) if self.key else grant

    def grant_write(self, grantee: iam.IGrantable, folder: str) -> iam.Grant:
        """Let `grantee` write to one folder, but not delete from it, and list the bucket."""
        grant = self._grant(grantee, folder, ["s3:PutObject", "s3:AbortMultipartUpload"])
        if not self.key:
            return grant
        # completing a multipart upload decrypts its parts
        return grant.combine(self.key.grant(grantee, "kms:Encrypt", "kms:GenerateDataKey", "kms:Decrypt"))

    def _grant(self, grantee: iam.IGrantable, folder: str, actions: list[str]) -> iam.Grant:
        objects = allow(
            grantee,
            *actions,
            on=[self.bucket.arn_for_objects(f"{folder}/*")],
            because="Objects are named when they are written; the folder is the grant.",
        )
        listed = allow(grantee, "s3:ListBucket", "s3:GetBucketLocation", on=[self.bucket.bucket_arn])
        return objects.combine(listed)
