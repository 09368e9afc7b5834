"""A local Hugging Face Hub that answers the requests of the Hub's client for the files of a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


class Hub:
    """The repository `owner/name`. `commits`: folder of each commit; `branches`: commit of each branch."""

    def __init__(self, commits: dict[str, Path], branches: dict[str, str]):
        self.commits, self.branches = commits, branches
        self.fetched: list[tuple[str, str]] = []
        """Commit and file of each download"""

    def folder(self, revision: str) -> tuple[str, Path] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None

    def files(self, folder: Path) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve the hub; yield its URL for `HF_ENDPOINT`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/owner/name(?:/(revision|tree)/([^/]+))?", path):
            return self._describe(found[1] or "revision", found[2] or "main")
        if found := re.fullmatch(r"/owner/name/resolve/([^/]+)/(.+)", path):
            return self._file(found[1], found[2])
        return self._answer(404, b"{}", "RepoNotFound")

    def _describe(self, what: str, revision: str) -> None:
        known = self.hub.folder(revision)
        if known is None:
            return self._answer(404, b"{}", "RevisionNotFound")
        commit, folder = known
        files = self.hub.files(folder)
        if what == "tree":
            said: object = [
                {
                    "type": "file",
                    "path": file,
                    "size": (folder / file).stat().st_size,
                    "oid": _etag(folder / file),
                }
                for file in files
            ]
        else:
            said = {"id": "owner/name", "sha": commit, "siblings": [{"rfilename": file} for file in files]}
        return self._answer(200, json.dumps(said).encode())

    def _file(self, revision: str, name: str) -> None:
        known = self.hub.folder(revision)
        if known is None:
            return self._answer(404, b"", "RevisionNotFound")
        commit, folder = known
        if not (folder / name).is_file():
            return self._answer(404, b"", "EntryNotFound", {"X-Repo-Commit": commit})
        if self.command == "GET":
            self.hub.fetched.append((commit, name))
        tags = {"ETag": f'"{_etag(folder / name)}"', "X-Repo-Commit": commit}
        return self._answer(200, (folder / name).read_bytes(), headers=tags)

    def _answer(
        self, status: int, body: bytes, error: str = "", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
