# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The local Snowflake: a fakesnow server that speaks Snowflake's protocol, with authentication.

    python -m local.snowflake.server --port 8085 --home .groundplan/cloud/snowflake --credentials FILE

The server runs in the Python environment `snowflake`. Tables are DuckDB files below `--home`, so they survive
a restart. `FILE` has the connection for clients (a `Connection` as JSON) and is created if it does not exist.
fakesnow accepts every login. Here a login needs, as on Snowflake, a token signed with the user's private key,
or the user's password.
"""

from __future__ import annotations

import argparse
import base64
import contextvars
import gzip
import hashlib
import hmac
import importlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fakesnow.instance import FakeSnow
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.ports import free_port

# The package also has a function named `server`, which an import statement would return
fakesnow: Any = importlib.import_module("fakesnow.server")

ACCOUNT, USER = "GROUNDPLAN", "GROUNDPLAN"
CHUNK_ROWS = 20_000
"""Rows of a result chunk. Snowflake returns a large result in chunks, which a client fetches separately from
storage (`get_result_batches`). fakesnow returns the whole result at once."""
KEPT_RESULTS = 16
"""Number of latest results whose chunks are kept."""


def credentials(path: Path, port: int) -> dict[str, Any]:
    """Return the connection of the account's only user, from the file; create the file if it does not exist.

    It has the same keys as the secret that a training container reads.
    """
    known = json.loads(path.read_text()) if path.exists() else _new_credentials()
    known |= {"host": "127.0.0.1", "port": port, "protocol": "http"}
    draft = path.with_suffix(".tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        json.dump(known, handle, indent=2)
    draft.replace(path)
    return known


def _new_credentials() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "account": ACCOUNT,
        "user": USER,
        "private_key": pem.decode(),
        "password": secrets.token_urlsafe(24),
        "warehouse": "GROUNDPLAN",
        "database": "GROUNDPLAN",
        "schema": "PUBLIC",
    }


class Accounts:
    """Authentication of the account's only user."""

    def __init__(self, known: dict[str, Any]):
        self.user, self.password = known["user"].upper(), known["password"]
        private = serialization.load_pem_private_key(known["private_key"].encode(), password=None)
        self.public = private.public_key()
        der = self.public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()

    def refusal(self, data: dict[str, Any]) -> tuple[str, str] | None:
        """Return Snowflake's error code and message, or None if the login is valid."""
        if data.get("AUTHENTICATOR") == "SNOWFLAKE_JWT":
            return None if self._signed(str(data.get("TOKEN", ""))) else ("394304", "JWT token is invalid.")
        same = hmac.compare_digest(str(data.get("PASSWORD", "")).encode(), self.password.encode())
        if same and str(data.get("LOGIN_NAME", "")).upper() == self.user:
            return None
        return "390100", "Incorrect username or password was specified."

    def _signed(self, token: str) -> bool:
        try:
            claims = jwt.decode(token, self.public, algorithms=["RS256"])  # type: ignore[arg-type]
        except jwt.PyJWTError:
            return False
        subject = str(claims.get("sub", ""))
        return (
            subject.rpartition(".")[2] == self.user and claims.get("iss") == f"{subject}.{self.fingerprint}"
        )


class Chunks:
    """Results split into chunks, as on Snowflake."""

    def __init__(self) -> None:
        self._results: dict[str, list[bytes]] = {}
        self._collected: contextvars.ContextVar[list] = contextvars.ContextVar("collected")
        self._whole = fakesnow.to_ipc

    def first(self, table: Any) -> Any:
        """Encode a result's first chunk; keep the other rows for `query`. Replaces fakesnow's `to_ipc`."""
        if table.num_rows > CHUNK_ROWS:
            self._collected.get().extend(
                table.slice(start, CHUNK_ROWS) for start in range(CHUNK_ROWS, table.num_rows, CHUNK_ROWS)
            )
            table = table.slice(0, CHUNK_ROWS)
        return self._whole(table)

    async def query(self, request: Request) -> Response:
        """Run a query. If its result has several chunks, the response has the URLs of the others."""
        rest: list[Any] = []
        self._collected.set(rest)
        response = await fakesnow.query_request(request)
        if not rest:
            return response
        answer = json.loads(bytes(response.body))
        name = secrets.token_urlsafe(24)
        self._results[name] = [gzip.compress(bytes(self._whole(table)), 1) for table in rest]
        for old in list(self._results)[:-KEPT_RESULTS]:
            del self._results[old]
        answer["data"]["chunks"] = [
            {
                "url": f"{request.url.scheme}://{request.url.netloc}/results/{name}/{index}",
                "rowCount": table.num_rows,
                "uncompressedSize": table.nbytes,
                "compressedSize": len(self._results[name][index]),
            }
            for index, table in enumerate(rest)
        ]
        answer["data"]["chunkHeaders"] = {}
        return JSONResponse(answer)

    async def fetch(self, request: Request) -> Response:
        chunks = self._results.get(request.path_params["name"], [])
        index = request.path_params["index"]
        if index >= len(chunks):
            return Response(status_code=403)
        return Response(chunks[index], headers={"Content-Encoding": "gzip"})


def application(home: Path, known: dict[str, Any]) -> Starlette:
    """Return the server: fakesnow's routes, with authentication, result chunks and persistent data.

    :param home: folder of the tables
    :param known: connection of the user
    """
    home.mkdir(parents=True, exist_ok=True)
    fakesnow.shared_fs = FakeSnow(db_path=home)
    accounts, chunks = Accounts(known), Chunks()
    fakesnow.to_ipc = chunks.first

    async def login(request: Request) -> Response:
        body = await request.body()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        refusal = accounts.refusal(json.loads(body).get("data", {}))
        if refusal:
            code, message = refusal
            return JSONResponse({"data": None, "code": code, "message": message, "success": False})
        return await fakesnow.login_request(request)

    ours = [
        Route("/session/v1/login-request", login, methods=["POST"]),
        Route("/queries/v1/query-request", chunks.query, methods=["POST"]),
        Route("/results/{name}/{index:int}", chunks.fetch, methods=["GET"]),
    ]
    return Starlette(routes=[*ours, *fakesnow.routes])


def main() -> None:
    parser = argparse.ArgumentParser(prog="local.snowflake.server", description="The local Snowflake.")
    parser.add_argument("--home", type=Path, required=True, help="folder of the tables")
    parser.add_argument(
        "--credentials", type=Path, required=True, help="file to which the connection is written"
    )
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the last one, or a free one)")
    asked = parser.parse_args()
    last = json.loads(asked.credentials.read_text())["port"] if asked.credentials.exists() else 0
    port = asked.port or free_port(last)
    known = credentials(asked.credentials, port)
    uvicorn.run(application(asked.home, known), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
