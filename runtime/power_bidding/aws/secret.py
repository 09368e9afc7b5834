"""Secrets Manager: a JSON secret, read once per container and again if its keys are rejected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


class JsonSecret:
    def __init__(self, client: SecretsManagerClient, arn: str) -> None:
        self.client, self.arn = client, arn
        self._known: dict[str, Any] | None = None

    def read(self, *, again: bool = False) -> dict[str, Any]:
        """Return the secret's object. Raises `ValueError` if it is not an object.

        :param again: read it again, after a rotation
        """
        if self._known is None or again:
            text = self.client.get_secret_value(SecretId=self.arn)["SecretString"]
            try:
                found = json.loads(text)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                got = "null or text that is not JSON" if found is None else type(found).__name__
                raise ValueError(f"the secret {self.arn} must be a JSON object, got {got}") from None
            self._known = found
        return self._known
