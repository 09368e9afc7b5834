"""Upload of checkpoints to S3, without a cloud."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.artifacts import TransferError
from local.sagemaker.checkpoints import Checkpoints
from tests.support.waiting import until
from toolkit import sagemaker

ROOT = Path(__file__).resolve().parents[2]


class Bucket:
    """An S3 client that stores files and signals each upload."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.during: list[str] = []
        """Names of the files next to a file during its upload."""
        self.came = threading.Event()

    def upload_file(self, file: str, bucket: str, key: str, **_: Any) -> None:
        self.keys.append(key)
        # Resolved, because the uploaded path may be that of a file descriptor
        self.during += sorted(path.name for path in Path(file).resolve().parent.iterdir())
        self.came.set()


def test_files_written_after_the_end_are_not_uploaded(tmp_path: Path) -> None:
    # given checkpoints that are uploaded while the job runs
    bucket = Bucket()
    checkpoints = Checkpoints(bucket, "s3://data/jobs/one/", [tmp_path], interval=0.01)
    checkpoints.start()
    (tmp_path / "before").write_text("1")
    assert bucket.came.wait(30)
    # when the job has failed
    checkpoints.end()
    (tmp_path / "after").write_text("2")
    # then no more files are uploaded
    assert not any(thread.name == "checkpoints" for thread in threading.enumerate())
    assert bucket.keys == ["jobs/one/before"]


def test_markers_are_written_next_to_checkpoints_as_by_sagemaker(tmp_path: Path) -> None:
    # given a checkpoint
    bucket = Bucket()
    checkpoints = Checkpoints(bucket, "s3://data/jobs/one/", [tmp_path], interval=0.01)
    (tmp_path / "one.bin").write_text("1")
    # when the checkpoint is uploaded, then there is a marker during the upload, and another marker afterwards
    checkpoints.close()
    assert bucket.during == ["one.bin", "one.bin.sagemaker-uploading"]
    assert {path.name for path in tmp_path.iterdir()} == {"one.bin", "one.bin.sagemaker-uploaded"}
    # and when the checkpoint has changed, then the second marker is removed during the next upload
    bucket.during.clear()
    (tmp_path / "one.bin").write_text("changed")
    checkpoints.close()
    assert bucket.during == ["one.bin", "one.bin.sagemaker-uploading"]
    # and no marker was uploaded
    assert bucket.keys == ["jobs/one/one.bin"] * 2


def test_fine_tuning_ignores_upload_markers_beside_its_files(tmp_path: Path) -> None:
    # given a task's files, which the local cloud has uploaded, and one of which it is uploading again
    bucket = Bucket()
    for name in ("adapter.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text(name)
    Checkpoints(bucket, "s3://data/jobs/one/", [tmp_path], interval=1).close()
    (tmp_path / "adapter.json.sagemaker-uploading").touch()
    assert len(list(tmp_path.iterdir())) == 5
    # then the task lists these files without the markers, because all listed files must be in S3
    found = [path.name for path in sagemaker.files(tmp_path)]
    assert found == ["adapter.json", "adapter_model.safetensors"]
    assert sorted(bucket.keys) == [f"jobs/one/{name}" for name in found]


READER = """
import sys
from pathlib import Path
from local.sagemaker import artifacts, checkpoints
folder = Path(sys.argv[1])

class Bucket:
    def upload_file(self, file, bucket, key, **_):
        Path(file).read_bytes()
        print(key)

def told(call, *given):
    try:
        call(*given)
    except artifacts.TransferError as error:
        print(error)

told(checkpoints.Checkpoints(Bucket(), "s3://data/jobs", [folder], interval=1).close)
for compress in (True, False):
    told(lambda: artifacts.store_output(
        Bucket(), artifacts.merged([folder]), "s3://data/model", compress, "", Path(sys.argv[2])
    ))
"""
SENTENCE = (
    "ClientError: {} upload failed:{}: Permission denied."
    " Please ensure that the container leaves its files and folders readable to their owner"
)


@pytest.mark.parametrize("closed", ["closed/file", "closed"])
def test_unreadable_file_fails_the_job_and_is_named(tmp_path: Path, closed: str) -> None:
    # given a file, or a folder, without any permission
    folder, scratch = tmp_path / "checkpoints", tmp_path / "scratch"
    scratch.mkdir()
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "file").write_text("1")
    (folder / closed).chmod(0)
    # when a user other than root uploads it
    program = [sys.executable, "-c", READER, str(folder), str(scratch)]
    if os.getuid() == 0:
        # as root, the program runs without the capability to bypass permissions
        program = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *program]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
    (folder / closed).chmod(0o700)
    # then the error names the path, for an upload as a checkpoint, in an archive, and as a single file
    assert done.stdout.splitlines() == [
        SENTENCE.format(what, closed) for what in ("Checkpoint", "Artifact", "Artifact")
    ], done.stderr


def test_folder_removed_during_the_scan_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a folder that is removed after it is listed, before it is read
    bucket = Bucket()
    (tmp_path / "gone").mkdir()
    (tmp_path / "kept").write_text("1")
    scan = os.scandir

    def remove_first(path: Any) -> Any:
        if Path(path).name == "gone":
            (tmp_path / "gone").rmdir()
        return scan(path)

    monkeypatch.setattr(os, "scandir", remove_first)
    # when checkpoints are uploaded, then the files outside of that folder are uploaded
    Checkpoints(bucket, "s3://data/jobs", [tmp_path], interval=1).close()
    assert not (tmp_path / "gone").exists()
    assert bucket.keys == ["jobs/kept"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied", "/proc/self/fd/9"), SENTENCE.format("Checkpoint", "one")),
        (RuntimeError("odd"), "InternalServerError: the local cloud failed: RuntimeError('odd')"),
    ],
)
def test_error_of_an_upload_is_the_failure_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    # given an upload that fails while the job runs
    def fail(*_: Any, **__: Any) -> None:
        raise error

    bucket = Bucket()
    monkeypatch.setattr(bucket, "upload_file", fail)
    (tmp_path / "one").write_text("1")
    checkpoints = Checkpoints(bucket, "s3://data/jobs", [tmp_path], interval=0.01)
    checkpoints.start()
    # when the upload has failed, then the error is raised, and raised again at the end
    try:
        assert str(until(lambda: checkpoints.error, "an error")) == reason
        with pytest.raises(TransferError):
            checkpoints.close()
    finally:
        checkpoints.end()
