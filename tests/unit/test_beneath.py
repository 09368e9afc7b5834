"""Reading files of a container without following links that lead out of the container's folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from local.sagemaker import beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("own")
    return folder


@pytest.mark.parametrize("target", ["deep/file", "./deep/../deep/file"])
def test_file_is_read_through_a_link_inside_the_folder(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    with beneath.held(root, root / "link") as file:
        assert file.read_text() == "own"
    assert beneath.stays(root, root / "link")


OUTSIDE = ["../secret", "deep/../../secret", "{}/secret"]


@pytest.mark.parametrize("target", [*OUTSIDE, "nothing", "link", "deep", "pipe"])
def test_pipe_or_link_out_of_the_folder_is_refused(root: Path, target: str) -> None:
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to(target.format(root.parent))
    with pytest.raises(FileNotFoundError), beneath.held(root, root / "link") as file:
        file.read_text()


def test_folder_swapped_for_a_link_is_not_followed(root: Path) -> None:
    # given a container that repeatedly swaps a folder for a link to the secret's folder
    (root.parent / "file").write_text("secret")
    (root / "swapped").symlink_to(root.parent)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for old, new in (("deep", "kept"), ("swapped", "deep"), ("deep", "swapped"), ("kept", "deep")):
                (root / old).rename(root / new)

    swapping = threading.Thread(target=swap)
    swapping.start()
    # when the file is read repeatedly, then each read returns the content of the container's own file, or
    # fails because the file does not exist
    read = set()
    try:
        for _ in range(3_000):
            try:
                with beneath.held(root, root / "deep" / "file") as file:
                    read.add(file.read_text())
            except FileNotFoundError:
                read.add("not there")
    finally:
        stop.set()
        swapping.join()
    assert "own" in read
    assert "secret" not in read
