"""The base pipeline: its source, and the id that adapters name."""

from __future__ import annotations

import functools
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from toolkit.failure import FatalError
from toolkit.identity import files_identity, identity


@dataclass(frozen=True)
class Base:
    """The folder of a pipeline and its id. `revision` is `owner/name@commit` if it is from Hugging Face."""

    folder: Path
    id: str
    revision: str | None = None

    def knows(self, identity: str) -> bool:
        """Return whether an adapter that names this id belongs to the base.

        Adapters from earlier versions of Groundplan name the revision, or a hash of all files in the folder.
        They are still valid.
        """
        if identity in (self.id, self.revision):
            return True
        return self.revision is None and len(identity) == 16 and identity == self._files_id

    @functools.cached_property
    def _files_id(self) -> str:
        return files_identity(self.folder)


def fetch(base: str, scratch: Path) -> Base:
    """Return the base. Raises `FatalError` if it cannot be fetched or has no readable weights.

    :param base: a folder, which is used in place; `s3://bucket/prefix/`, which is downloaded to `scratch`; or
        a Hugging Face id, `owner/name` or `owner/name@revision`, which is downloaded to the library's cache
    """
    revision = None
    if base.startswith("s3://"):
        folder = _from_s3(base, scratch / "base")
    elif Path(base).is_dir():
        folder = Path(base).resolve()
    elif re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", base):
        folder, revision = _from_hugging_face(base)
    else:
        raise FatalError(
            f"GROUNDPLAN_BASE must be a folder, a Hugging Face id or s3://bucket/prefix/, got {base!r}"
        )
    if not (folder / "model_index.json").is_file():
        raise FatalError(f"there is no pipeline at {base}: model_index.json is missing")
    try:
        return Base(folder, identity(folder), revision)
    except (OSError, ValueError) as error:
        raise FatalError(f"could not read the weights of {base}: {error}") from None


def _from_s3(address: str, into: Path) -> Path:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    try:
        s3 = boto3.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]

        def download(key: str) -> None:
            path = into / key.removeprefix(prefix)
            if not path.resolve().is_relative_to(into.resolve()):
                raise FatalError(f"{address} has the object {key}, whose path leads out of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, key, str(path))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(download, (key for key in keys if not key.endswith("/"))))
    except (BotoCoreError, ClientError) as error:
        raise FatalError(f"could not download the base from {address}: {error}") from None
    return into


def _from_hugging_face(base: str) -> tuple[Path, str]:
    from diffusers import DiffusionPipeline

    name, _, revision = base.partition("@")
    try:
        folder = Path(DiffusionPipeline.download(name, revision=revision or None, use_safetensors=True))
    except (OSError, ValueError) as error:
        raise FatalError(f"could not download the base {base} from Hugging Face: {error}") from None
    return folder, f"{name}@{folder.name}"
