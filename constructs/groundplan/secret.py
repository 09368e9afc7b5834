from __future__ import annotations

from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan.permissions import acknowledge
from groundplan.removal import removal


class EmptySecret(Construct):
    """A secret that is created without a value, so that no template contains the value.

    Store the value once: `aws secretsmanager put-secret-value --secret-id NAME --secret-string file://...`.
    Until then, reading the secret fails with ResourceNotFoundException.

    :param name: the secret's name, unique in the account and Region.
    :param description: description of the value.
    :param key: encrypts the value. Default: the account's `aws/secretsmanager` key, which costs nothing.
    :param retain: whether the secret remains when the stack is deleted. Default: False.
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
        # the L2 construct always generates a random value, which could be mistaken for credentials
        resource = secretsmanager.CfnSecret(
            self, "Resource", name=name, description=description, kms_key_id=key.key_arn if key else None
        )
        resource.apply_removal_policy(removal(retain))
        self.secret: secretsmanager.ISecret = secretsmanager.Secret.from_secret_attributes(
            self, "Secret", secret_complete_arn=resource.ref, encryption_key=key
        )
        """The secret. `secret.grant_read(role)` lets a role read its value."""
        acknowledge(
            resource,
            {
                "AwsSolutions-SMG4": "The value belongs to another system, which must learn of a new one"
                " first: a rotation function cannot know how.",
            },
        )
