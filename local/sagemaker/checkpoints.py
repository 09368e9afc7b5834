"""Checkpoints of training jobs: download from S3, and upload while the containers run."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from local.sagemaker import beneath
from local.sagemaker.artifacts import S3_ERRORS, TRANSFER, TransferError, list_keys, relative
from local.sagemaker.uploads import FolderUpload, state_of

UPLOADING, UPLOADED = ".sagemaker-uploading", ".sagemaker-uploaded"


@contextlib.contextmanager
def _marked(root: Path, file: Path) -> Iterator[None]:
    """Create SageMaker's empty marker files next to a file: `UPLOADING` during its upload, then `UPLOADED`.

    AWS's containers rely on both marker files (aws/sagemaker-xgboost-container, `checkpointing.py`)."""
    with contextlib.ExitStack() as stack:
        try:
            folder, name = stack.enter_context(beneath.folder(root, file))
        except FileNotFoundError:  # the container removed it
            yield
            return

        def put(ending: str) -> None:
            with contextlib.suppress(OSError):  # the name is too long
                flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW
                os.close(os.open(name + ending, flags, 0o644, dir_fd=folder))

        def take(ending: str) -> None:
            with contextlib.suppress(OSError):
                os.unlink(name + ending, dir_fd=folder)

        take(UPLOADED)
        put(UPLOADING)
        try:
            yield
            put(UPLOADED)
        finally:
            take(UPLOADING)


class Checkpoints(FolderUpload):
    """The instances' checkpoint folders. As on AWS, all instances upload to one S3 prefix."""

    what = "Checkpoint"
    follows_links = True

    def restore(self) -> int:
        """Download existing checkpoints into every folder; return their number. Raises TransferError."""
        keys = []
        try:
            keys = list(list_keys(self.s3, self.bucket, self.prefix))
            for key in keys:
                path = relative(key, self.prefix)
                first, *others = [folder / path for folder in self.folders]
                first.parent.mkdir(parents=True, exist_ok=True)
                self.s3.download_file(self.bucket, key, str(first), Config=TRANSFER)
                for other in others:
                    other.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(first, other)
                for file in (first, *others):
                    self.sent[file] = state_of(file.stat())
        except S3_ERRORS as error:
            raise TransferError(
                f"ClientError: Checkpoint download failed:{error}. Please ensure that the job's role may "
                f"list and read s3://{self.bucket}/{self.prefix}"
            ) from error
        return len(keys)

    def wants(self, file: Path) -> bool:
        return not file.name.endswith((UPLOADING, UPLOADED))

    def around(self, root: Path, file: Path) -> contextlib.AbstractContextManager[None]:
        return _marked(root, file)
