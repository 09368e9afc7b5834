"""A connection to Snowflake, with credentials from Secrets Manager that errors and logs never contain."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import boto3
import snowflake.connector
from botocore.exceptions import BotoCoreError, ClientError
from snowflake.connector import SnowflakeConnection

from toolkit.failure import FatalError, keep_secret, scrub

from .keys import private_key

REQUIRED = ("account", "user", "warehouse", "database", "schema")
PROOFS = ("private_key", "private_key_passphrase", "password")
OPTIONAL = ("role", "host", "port", "protocol")
LOGIN_SECONDS = int(os.environ.get("GROUNDPLAN_LOGIN_SECONDS") or 20)
"""Maximum time in seconds of a login to an address that does not answer. A rejected login fails
at once."""

REQUEST_SECONDS = 120
"""Maximum time of a request in seconds. Without it, the connector retries failed requests indefinitely."""

logging.getLogger("snowflake").setLevel(logging.CRITICAL)  # the connector raises all errors that it logs


def credentials(secret: str) -> dict[str, Any]:
    """Return the connection parameters in the secret of this name or ARN.

    Raises `FatalError` if the secret cannot be read, is not a JSON object, lacks a parameter or has an
    unknown one.
    """
    try:
        client = boto3.client("secretsmanager", region_name=os.environ.get("AWS_REGION"))
        text = client.get_secret_value(SecretId=secret)["SecretString"]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an error")
        reasons = {
            "ResourceNotFoundException": "there is no such secret",
            "AccessDeniedException": "the job's role may not read it",
            "DecryptionFailure": "the job's role may not decrypt it",
        }
        raise FatalError(f"secret {secret} cannot be read: {reasons.get(code, code)}") from None
    except (BotoCoreError, KeyError) as error:
        raise FatalError(f"secret {secret} cannot be read: {scrub(error)}") from None
    try:
        found = json.loads(text)
    except ValueError:
        raise FatalError(f"secret {secret} is not JSON") from None  # JSON's error may show the content
    if not isinstance(found, dict):
        raise FatalError(f"secret {secret} is not a JSON object")
    if wrong := [name for name in PROOFS if not isinstance(found.get(name) or "", str)]:
        raise FatalError(f"secret {secret}: {', '.join(wrong)} must be text")
    keep_secret(*(found.get(name) for name in PROOFS))
    if missing := [name for name in REQUIRED if not found.get(name)]:
        raise FatalError(f"secret {secret} lacks {', '.join(missing)}")
    if not (found.get("private_key") or found.get("password")):
        raise FatalError(f"secret {secret} must have private_key, or password where key pairs are impossible")
    allowed = (*REQUIRED, *PROOFS, *OPTIONAL)
    if strange := [name for name in found if name not in allowed]:
        raise FatalError(
            f"secret {secret} must have only the fields {', '.join(allowed)}, got {', '.join(strange)}"
        )
    return found


def connect(found: dict[str, Any]) -> SnowflakeConnection:
    """Log in with a key pair, or with the password if the secret has no key.

    Raises `FatalError` if Snowflake rejects the login or cannot be reached.
    """
    parameters = {name: found[name] for name in (*REQUIRED, *OPTIONAL) if found.get(name)}
    if found.get("private_key"):
        parameters["private_key"] = private_key(found["private_key"], found.get("private_key_passphrase"))
    else:
        parameters["password"] = found["password"]
    who = f"user {found['user']} of account {found['account']}"
    try:
        return snowflake.connector.connect(
            **parameters,
            login_timeout=LOGIN_SECONDS,
            network_timeout=REQUEST_SECONDS,
            client_prefetch_threads=2,  # each thread keeps a chunk of the result in memory
            application="Groundplan",
            session_parameters={"QUERY_TAG": os.environ.get("TRAINING_JOB_NAME", "snowflake_xgboost")},
        )
    except snowflake.connector.errors.OperationalError as error:
        raise FatalError(f"Snowflake cannot be reached for {who}: {scrub(error.msg or error)}") from None
    except snowflake.connector.errors.Error as error:
        raise FatalError(f"Snowflake refused the login of {who}: {scrub(error.msg or error)}") from None
