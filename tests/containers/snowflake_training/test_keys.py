"""The private key of the secret: readable keys are accepted; errors name the cause without the key."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from snowflake_xgboost.keys import private_key
from toolkit.failure import FatalError

PHRASE = "correct horse"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - too short: must be refused
EDWARDS = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
PKCS8, PKCS1, OPENSSH = (
    getattr(serialization.PrivateFormat, name) for name in ("PKCS8", "TraditionalOpenSSL", "OpenSSH")
)
LOCKED = serialization.BestAvailableEncryption(PHRASE.encode())
EXPECTED = RSA.private_bytes(serialization.Encoding.DER, PKCS8, serialization.NoEncryption())


def pem(key: Any = RSA, form: Any = PKCS8, lock: Any = None) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, lock or serialization.NoEncryption()).decode()


def der(form: Any = PKCS8, lock: Any = None) -> str:
    made = RSA.private_bytes(serialization.Encoding.DER, form, lock or serialization.NoEncryption())
    return base64.b64encode(made).decode()


def public(encoding: str, form: str = "SubjectPublicKeyInfo") -> bytes:
    return RSA.public_key().public_bytes(
        getattr(serialization.Encoding, encoding), getattr(serialization.PublicFormat, form)
    )


READABLE = {
    "PKCS #8": (pem(), None),
    "PKCS #1": (pem(form=PKCS1), None),
    "OpenSSH": (pem(form=OPENSSH), None),
    "encrypted": (pem(lock=LOCKED), PHRASE),
    "encrypted PKCS #1": (pem(form=PKCS1, lock=LOCKED), PHRASE),
    "encrypted, literal line ends": (pem(lock=LOCKED).replace("\n", "\\n"), PHRASE),
    "literal line ends": (pem().replace("\n", "\\n"), None),
    "literal carriage returns": (pem().replace("\n", "\\r\\n"), None),
    "carriage returns": (pem().replace("\n", "\r\n"), None),
    "old carriage returns": (pem().replace("\n", "\r"), None),
    "spaces for lines": (pem().replace("\n", " "), None),
    "no lines": (pem().replace("\n", ""), None),
    "quotes around": (f'"{pem().strip()}"', None),
    "text around": (f"Bag Attributes\n  x: y\n{pem()}\n", None),
    "indented": (pem().replace("\n", "\n    "), None),
    "needless passphrase": (pem(), PHRASE),
    "needless passphrase, PKCS #1": (pem(form=PKCS1), PHRASE),
    "empty passphrase": (pem(), ""),
    "bare base64": ("".join(pem().splitlines()[1:-1]), None),
    "bare base64 in lines": ("\n".join(pem().splitlines()[1:-1]), None),
    "base64 of DER": (der(), None),
    "base64 of DER, PKCS #1": (der(PKCS1), None),
    "base64 of encrypted DER": (der(lock=LOCKED), PHRASE),
    "base64 of DER, needless passphrase": (der(), PHRASE),
    "base64 of PEM": (base64.b64encode(pem().encode()).decode(), None),
}


@pytest.mark.parametrize("name", READABLE)
def test_key_that_can_be_read_is_accepted(name: str):
    assert private_key(*READABLE[name]) == EXPECTED


def test_elliptic_curve_key_is_accepted():
    expected = EC.private_bytes(serialization.Encoding.DER, PKCS8, serialization.NoEncryption())
    assert private_key(pem(EC), None) == private_key(pem(EC, PKCS1), None) == expected


PUBLIC = "private_key of the secret must be the private key, got a public key"
LACKS = "private_key of the secret is encrypted: the secret must have private_key_passphrase"
SHUT = "private_key_passphrase of the secret does not decrypt private_key"
DAMAGED = "private_key of the secret is damaged, or of an unknown format"
MISTAKES = {
    "no passphrase": (pem(lock=LOCKED), None, LACKS),
    "no passphrase, PKCS #1": (pem(form=PKCS1, lock=LOCKED), "", LACKS),
    "no passphrase, DER": (der(lock=LOCKED), None, LACKS),
    "wrong passphrase": (pem(lock=LOCKED), "wrong", SHUT),
    "wrong passphrase, PKCS #1": (pem(form=PKCS1, lock=LOCKED), "wrong", SHUT),
    "wrong passphrase, DER": (der(lock=LOCKED), "wrong", SHUT),
    "public": (public("PEM").decode(), None, PUBLIC),
    "public PKCS #1": (public("PEM", "PKCS1").decode(), None, PUBLIC),
    "public DER": (base64.b64encode(public("DER")).decode(), None, PUBLIC),
    "public without header": ("".join(public("PEM").decode().splitlines()[1:-1]), PHRASE, PUBLIC),
    "public SSH": (public("OpenSSH", "OpenSSH").decode(), None, PUBLIC),
    "certificate": (
        "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----",
        None,
        "private_key of the secret must be a private key, got PEM of another type",
    ),
    "cut off": (
        pem()[:-40],
        None,
        "private_key of the secret is cut off: it has a BEGIN line without its END line",
    ),
    "damaged": (pem().replace(pem().splitlines()[5], ""), None, DAMAGED),
    "damaged DER": (der()[:400], None, DAMAGED),
    "no key in PEM": ("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----", None, DAMAGED),
    "Ed25519": (pem(EDWARDS), None, "private_key of the secret must be an RSA or elliptic-curve key"),
    "small": (pem(SMALL), None, "private_key of the secret must have at least 2048 bits, got 1024"),
    "path": (
        "/home/me/rsa_key.p8",
        None,
        "private_key of the secret must be the content of the key's file, got a file name",
    ),
    "words": ("hunter2!", None, "private_key of the secret must be PEM, or the base64 of DER or PEM"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_unreadable_key_raises_its_reason_without_the_key(name: str):
    given, phrase, reason = MISTAKES[name]
    with pytest.raises(FatalError) as caught:
        private_key(given, phrase)
    # then each cause has its own error message, and neither the message nor Python's traceback contains the
    # key
    assert str(caught.value) == reason
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
