"""Root access key of a local cloud, and signatures for requests to `/_groundplan/`. Standard library only.

The key gives root access to the cloud's account. It is created once for each home folder, in a file that only
its owner can read, and does not change when the cloud is restarted.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

FILE = "credentials.json"
SERVICE = "groundplan"
"""Service name in the signatures of requests to `/_groundplan/`."""


@dataclass(frozen=True)
class Key:
    """An access key."""

    access_key_id: str
    secret_access_key: str


def new(prefix: str = "AKIA") -> Key:
    """Generate an access key in the format of AWS."""
    identifier = base64.b32encode(secrets.token_bytes(10)).decode()
    return Key(prefix + identifier, secrets.token_urlsafe(30))


def read(home: Path) -> Key:
    """Return the key of the cloud in `home`. Raises `FileNotFoundError` if the cloud has no key yet."""
    return Key(**json.loads((home / FILE).read_text()))


def ensure(home: Path) -> Key:
    """Return the key of the cloud in `home`, and create it if it does not exist. The file has mode 0600."""
    file = home / FILE
    if not file.exists():
        draft = file.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(vars(new()), out)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    file.chmod(0o600)
    return read(home)


def signed(key: Key, method: str, url: str, body: bytes = b"") -> Mapping[str, str]:
    """Return the headers that sign a request to `/_groundplan/` (AWS Signature Version 4)."""
    place = urlsplit(url)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/local/{SERVICE}/aws4_request"
    digest = hashlib.sha256(body).hexdigest()
    canonical = (
        f"{method}\n{place.path}\n\nhost:{place.netloc}\nx-amz-date:{now}\n\nhost;x-amz-date\n{digest}"
    )
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signing = f"AWS4{key.secret_access_key}".encode()
    for part in (*scope.split("/"), text):
        signing = hmac.digest(signing, part.encode(), "sha256")
    return {
        "X-Amz-Date": now,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={key.access_key_id}/{scope}, "
        f"SignedHeaders=host;x-amz-date, Signature={signing.hex()}",
    }
