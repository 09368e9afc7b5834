"""The benchmark of the speed of selection runs only files from one commit of the library CORDS."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.data_centric import selection, speed

CONTENT = {name: f"# {name}\n".encode() for name in speed.FILES}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of CORDS whose files have the expected hashes."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(speed, "FILES", hashes)
    folder = tmp_path / "checkout" / speed.FOLDER
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return tmp_path / "checkout"


def test_modules_are_found_in_a_checkout(checkout: Path) -> None:
    assert speed.published(checkout) == checkout / speed.FOLDER
    assert speed.published(checkout / speed.FOLDER) == checkout / speed.FOLDER


def test_module_of_another_commit_is_refused(checkout: Path) -> None:
    (checkout / speed.FOLDER / "glisterstrategy.py").write_text("changed")
    with pytest.raises(SystemExit, match=r"glisterstrategy.py must have SHA-256 .* as at commit 8d10c7f"):
        speed.published(checkout)


def test_folder_without_the_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--published must be a checkout of CORDS, but there is no glister"):
        speed.published(tmp_path)


def test_modules_are_downloaded_once(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a server with CORDS's files
    monkeypatch.setenv("GROUNDPLAN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(speed, "URL", (checkout / speed.FOLDER).as_uri())
    # when the files are requested, and requested again after the server has ended
    root = speed.published(None)
    monkeypatch.setattr(speed, "URL", "file:///gone")
    # then the second request is answered from the cache
    assert speed.published(None) == root
    assert {name: (root / name).read_bytes() for name in CONTENT} == CONTENT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "3001"], "--budget must be a multiple of 15 up to --examples, got 3001"),
        (["--budget", "300", "--examples", "200"], "--budget must be a multiple of 15 up to --examples"),
        (["--published", "/gone"], "there is no folder /gone"),
        (["--repeats", "0"], "must be a whole number from 1, got 0"),
    ],
)
def test_invalid_speed_option_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        speed.parse(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fractions", "1"], "must be a number between 0 and 1, got 1"),
        (["--fractions", "0.3", "0"], "must be a number between 0 and 1, got 0"),
        (["--seeds", "0"], "must be a whole number from 1, got 0"),
        (["--strategies", "glitter"], "invalid choice: 'glitter'"),
    ],
)
def test_invalid_selection_option_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        selection.parser("selection", "", 10, selection.COMPARED).parse_args(arguments)
    assert message in capsys.readouterr().err
