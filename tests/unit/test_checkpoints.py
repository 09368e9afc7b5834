"""Checkpoints on their way to S3, without a cloud."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from local.sagemaker.artifacts import Checkpoints


class Bucket:
    """An S3 client that takes files, and says when it has one."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.came = threading.Event()

    def upload_file(self, file: str, bucket: str, key: str, **_: Any) -> None:
        self.keys.append(key)
        self.came.set()


def test_what_is_written_after_the_end_is_not_brought_over(tmp_path: Path) -> None:
    # given checkpoints that are brought over while the job runs
    bucket = Bucket()
    checkpoints = Checkpoints(bucket, "s3://data/jobs/one/", [tmp_path], interval=0.01)
    checkpoints.start()
    (tmp_path / "before").write_text("1")
    assert bucket.came.wait(30)
    # when the job has failed
    checkpoints.end()
    (tmp_path / "after").write_text("2")
    # then nobody looks any more
    assert not any(thread.name == "checkpoints" for thread in threading.enumerate())
    assert bucket.keys == ["jobs/one/before"]
