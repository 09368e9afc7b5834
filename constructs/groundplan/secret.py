from __future__ import annotations

from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan.permissions import acknowledge
from groundplan.removal import removal


class EmptySecret(Construct):
    """A named secret that is created without a value, so that none ever passes through a template.

    A person puts the value once: `aws secretsmanager put-secret-value --secret-id NAME --secret-string file://...`.
    Until then, reading it fails with ResourceNotFoundException.

    :param name: the secret's name, unique in the account and Region.
    :param description: what belongs in it.
    :param key: encrypts the value. Default: the account's `aws/secretsmanager` key, which costs nothing.
    :param retain: whether it outlives the stack. Default: False.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        description: str,
        key: kms.IKey | None = None,
        retain: bool = False,
    ) -> None:
        super().__init__(scope, id)
        # The L2 construct always has a random value generated, which would pass for credentials.
        resource = secretsmanager.CfnSecret(
            self, "Resource", name=name, description=description, kms_key_id=key.key_arn if key else None
        )
        resource.apply_removal_policy(removal(retain))
        self.secret: secretsmanager.ISecret = secretsmanager.Secret.from_secret_attributes(
            self, "Secret", secret_complete_arn=resource.ref, encryption_key=key
        )
        """The secret itself."""
        acknowledge(
            resource,
            {
                "AwsSolutions-SMG4": "The value belongs to another system, which must learn of a new one"
                " first: a rotation function cannot know how.",
            },
        )
