"""The benchmark against QuEST runs the files of one commit only, from a checkout or downloaded once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.power_bidding import quest

CONTENT = {name: f"# {name}\n".encode() for name in quest.FILES}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of QuEST's repository, snl-quest, whose files have the expected hashes."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(quest, "FILES", hashes)
    for name, content in CONTENT.items():
        path = tmp_path / "checkout" / quest.FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "checkout"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GROUNDPLAN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_package_is_found_in_a_checkout(checkout: Path) -> None:
    assert quest.published(checkout) == checkout / quest.FOLDER
    assert quest.published(checkout / quest.FOLDER) == checkout / quest.FOLDER


def test_file_of_another_commit_is_refused(checkout: Path) -> None:
    (checkout / quest.FOLDER / "valuation/es_gui/tools/optimizer.py").write_text("changed")
    with pytest.raises(SystemExit, match=r"optimizer.py must have SHA-256 .* as at commit 416a3c26d366, got"):
        quest.published(checkout)


def test_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match="--published must be a checkout of snl-quest, but there is no valuation/"
    ):
        quest.published(tmp_path)


def test_files_are_downloaded_once(checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a server with snl-quest's files
    monkeypatch.setattr(quest, "URL", (checkout / quest.FOLDER).as_uri())
    # when the files are requested, and requested again after the server has ended
    root = quest.published(None)
    monkeypatch.setattr(quest, "URL", "file:///gone")
    # then the second request is answered from the cache
    assert quest.published(None) == root
    assert {name: (root / name).read_bytes() for name in CONTENT} == CONTENT
    assert root.is_relative_to(home)


def test_download_that_fails_names_the_option(
    checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quest, "URL", "file:///gone")
    with pytest.raises(SystemExit, match=r"cannot be downloaded .*: give a checkout with --published"):
        quest.published(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--days", "0"], "--days must be a whole number from 1 to 365, got 0"),
        (["--published", "/gone"], "there is no folder /gone"),
    ],
)
def test_invalid_option_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        quest.parse(arguments)
    assert message in capsys.readouterr().err
