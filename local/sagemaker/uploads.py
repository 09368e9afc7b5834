"""Upload of containers' folders to S3, once or repeatedly while the containers run."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from local.sagemaker import beneath
from local.sagemaker.artifacts import S3_ERRORS, TRANSFER, TransferError, files_below, split, unreadable

logger = logging.getLogger(__name__)


class FolderUpload:
    """The folders of a job's instances, and the S3 prefix to which all of them are uploaded.

    Files are uploaded in the order in which they were written: when a file is in S3, earlier files are too.
    Files that the containers delete stay in S3. `error` is the failure of an upload in the background.
    """

    what: ClassVar[str] = "Output"
    """Name of the uploaded data in error messages."""
    follows_links: ClassVar[bool] = False
    """Whether links with a target in the container's folders are followed. Otherwise links are skipped."""

    def __init__(
        self,
        s3: Any,
        uri: str,
        folders: Sequence[Path],
        interval: float,
        roots: Sequence[Path] | None = None,
        extra: Mapping[str, str] = MappingProxyType({}),
    ):
        """
        :param folders: one for each container
        :param interval: seconds between two uploads of changes
        :param roots: for each container, a folder that it may change and that contains the container's entry
            in `folders`; default: `folders`
        :param extra: S3 arguments of the uploads, such as a KMS key
        """
        self.s3, self.folders, self._interval, self._extra = s3, folders, interval, dict(extra)
        self._roots = roots or folders
        self.bucket, prefix = split(uri)
        self.prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        self.sent: dict[Path, tuple[int, int]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: TransferError | None = None

    def start(self) -> None:
        """Start to upload new and changed files in the background."""
        name = f"{self.what.lower()}s"
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Upload the remaining changes, after the containers have ended. Raises TransferError."""
        self.end()
        if self.error:
            raise self.error
        self._sync()

    def end(self) -> None:
        """Stop uploading, so that no object changes after the job has ended."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _repeat(self) -> None:
        while not self._closed.wait(self._interval):
            try:
                self._sync()
            except TransferError as error:
                self.error = error
                return
            except Exception as error:
                logger.exception("The upload of %ss ended because of an unexpected error", self.what)
                self.error = TransferError(f"InternalServerError: the local cloud failed: {error!r}")
                return

    def _sync(self) -> None:
        for root, folder in zip(self._roots, self.folders, strict=True):
            file = folder
            try:
                for file in self._by_time(root, folder):
                    self._send(root, folder, file)
            except S3_ERRORS as error:
                raise TransferError(
                    f"ClientError: {self.what} upload failed:{error}. Please ensure that the job's role "
                    f'has "s3:PutObject" permission on s3://{self.bucket}/{self.prefix}'
                ) from error
            except OSError as error:
                raise unreadable(self.what, folder, file, error) from error

    def _by_time(self, root: Path, folder: Path) -> list[Path]:
        """Return the files in a folder by time of their last write, oldest first, without files outside of
        `root`.

        Raises OSError if a folder cannot be read."""
        found = []
        for file in files_below(folder) if self._allowed(root, folder) else ():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # replaced or removed meanwhile
                if file.is_file() and self.wants(file) and self._allowed(root, file):
                    found.append((file.stat().st_mtime_ns, file))
        return [file for _, file in sorted(found)]

    def _allowed(self, root: Path, path: Path) -> bool:
        if self.follows_links:
            return beneath.stays(root, path)
        with contextlib.suppress(OSError, RuntimeError):  # a link to itself
            return path.resolve() == root.resolve() / path.relative_to(root)
        return False

    def wants(self, file: Path) -> bool:
        """Return whether this file is uploaded."""
        return True

    def around(self, root: Path, file: Path) -> contextlib.AbstractContextManager[None]:
        """Return a context manager for the upload of a file."""
        return contextlib.nullcontext()

    def _send(self, root: Path, folder: Path, file: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # replaced or removed meanwhile
            state = state_of(file.stat())
            if self.sent.get(file) == state:
                return
            key = self.prefix + file.relative_to(folder).as_posix()
            with beneath.held(root, file) as path, self.around(root, file):
                self.s3.upload_file(str(path), self.bucket, key, ExtraArgs=self._extra, Config=TRANSFER)
            self.sent[file] = state


def state_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
