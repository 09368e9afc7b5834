"""The archive that the endpoint loads: the same files always make the same bytes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from personalization.core.archive import build

FILES = {"adapter_model.safetensors": bytes(range(256)) * 99, "adapter.json": b'{"rank": 8}'}
ROOT = Path(__file__).resolve().parents[3]


def test_archive_has_the_files_without_folders_or_times():
    with tarfile.open(fileobj=io.BytesIO(build(FILES)), mode="r:gz") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == ["adapter.json", "adapter_model.safetensors"]
        assert all(member.isfile() and member.mode == 0o644 for member in members)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
        for member in members:
            content = tar.extractfile(member)
            assert content is not None
            assert content.read() == FILES[member.name]


def test_archive_bytes_do_not_depend_on_order_time_or_process():
    first = build(FILES)
    time.sleep(1.1)  # if the archive contained its build time, the two archives would differ
    assert build(dict(reversed(FILES.items()))) == first
    program = (
        "import sys; from personalization.core.archive import build;"
        "sys.stdout.buffer.write(build({'adapter_model.safetensors': bytes(range(256)) * 99,"
        " 'adapter.json': b'{\"rank\": 8}'}))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT / "runtime"), "TZ": "Asia/Tokyo"}
    other = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True)
    assert other.stdout == first


def test_archive_bytes_change_with_the_files():
    assert build(FILES) != build(FILES | {"adapter.json": b'{"rank": 9}'})
