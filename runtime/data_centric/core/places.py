"""Keys of a labeling run's objects in the stack's bucket."""

from __future__ import annotations

from dataclasses import dataclass

INPUTS, LABELS = "inputs", "labels"
"""Folder of the manifests and of the pictures that labelers see; folder of the results of runs."""


@dataclass(frozen=True)
class Places:
    bucket: str

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def key(self, address: str, *folders: str) -> str:
        """Return the key of an S3 address. Raises `ValueError` unless the key is in one of `folders`."""
        key = address.removeprefix(f"s3://{self.bucket}/")
        if key == address or key.partition("/")[0] not in folders or "/../" in key:
            allowed = " or ".join(self.url(f"{folder}/") for folder in folders)
            raise ValueError(f"must be in {allowed}, got {address[:200]!r}")
        return key


def result(run: str, name: str) -> str:
    """Return the key of a run's result."""
    return f"{LABELS}/{run}/{name}"


LABELED, UNLABELED, REPORT = "labeled.manifest", "unlabeled.manifest", "report.json"
ERRORS, CORRECTED = "errors.manifest", "corrected.manifest"
"""Names of the results."""
