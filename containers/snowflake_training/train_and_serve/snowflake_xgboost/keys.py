"""Reading of the private key in the secret, in any common format. Errors contain no part of the key."""

from __future__ import annotations

import base64
import binascii
import re
import textwrap
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from toolkit.failure import FatalError

LEAST_BITS = 2048
"""Snowflake's minimum for RSA keys: https://docs.snowflake.com/en/user-guide/key-pair-auth"""

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)

Loader = Callable[[bytes, bytes | None], Any]


def private_key(given: str, passphrase: str | None) -> bytes:
    """Return the key in the format of the connector: DER, PKCS #8, not encrypted. Raises `FatalError`.

    :param given: PEM (PKCS #8, PKCS #1 or OpenSSH), with line ends of any kind, escaped as `\\n`, or missing;
        or the base64 of DER or of PEM
    :param passphrase: ignored if the key is not encrypted
    """
    loader, data = _unwrapped(given)
    try:
        key = _opened(loader, data, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        if _is_public(data):
            raise FatalError("private_key of the secret must be the private key, got a public key") from None
        raise FatalError("private_key of the secret is damaged, or of an unknown format") from None
    if not isinstance(key, (RSAPrivateKey, EllipticCurvePrivateKey)):
        raise FatalError("private_key of the secret must be an RSA or elliptic-curve key")
    if isinstance(key, RSAPrivateKey) and key.key_size < LEAST_BITS:
        raise FatalError(
            f"private_key of the secret must have at least {LEAST_BITS} bits, got {key.key_size}"
        )
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _unwrapped(given: str) -> tuple[Loader, bytes]:
    """Return the function that loads the key's format, and the key as valid PEM or DER.

    Raises `FatalError` for text that cannot be a private key.
    """
    text = given.replace("\\r", "").replace("\\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    text = text.strip("\"' \n\t")
    if text.startswith("ssh-"):
        raise FatalError("private_key of the secret must be the private key, got a public key")
    if "-----BEGIN" not in text:
        return _from_base64(text)
    block = _BLOCK.search(text)
    if block is None:
        raise FatalError("private_key of the secret is cut off: it has a BEGIN line without its END line")
    label, body = block.groups()
    if label.endswith("PUBLIC KEY"):
        raise FatalError("private_key of the secret must be the private key, got a public key")
    if not label.endswith("PRIVATE KEY"):
        raise FatalError("private_key of the secret must be a private key, got PEM of another type")
    if "Proc-Type" not in body:  # an encrypted key with this header must keep its lines
        body = "\n" + textwrap.fill("".join(body.split()), 64) + "\n"
    pem = f"-----BEGIN {label}-----{body}-----END {label}-----\n".encode()
    if label.startswith("OPENSSH"):
        return serialization.load_ssh_private_key, pem
    return serialization.load_pem_private_key, pem


def _from_base64(text: str) -> tuple[Loader, bytes]:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if b"-----BEGIN" in data[:100]:
        return _unwrapped(data.decode("ascii", "replace"))
    if data[:1] == b"\x30":  # DER begins with the tag of a SEQUENCE
        return serialization.load_der_private_key, data
    if re.fullmatch(r"(file:|~?[./\\])?[^\s]{1,255}\.(p8|pem|der|key|txt)", text):
        raise FatalError("private_key of the secret must be the content of the key's file, got a file name")
    raise FatalError("private_key of the secret must be PEM, or the base64 of DER or PEM")


def _opened(loader: Loader, data: bytes, passphrase: str | None) -> Any:
    """Load the key. Raises `FatalError` for a missing or wrong passphrase, and ValueError or
    UnsupportedAlgorithm for an invalid key."""
    try:
        return loader(data, None)
    except TypeError:  # the key is encrypted
        pass
    if not passphrase:
        raise FatalError(
            "private_key of the secret is encrypted: the secret must have private_key_passphrase"
        )
    try:
        return loader(data, passphrase.encode())
    except (ValueError, TypeError):
        raise FatalError("private_key_passphrase of the secret does not decrypt private_key") from None


def _is_public(data: bytes) -> bool:
    try:
        serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True
