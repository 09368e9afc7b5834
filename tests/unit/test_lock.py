"""The order in which requirements are resolved, and the files that are resolved with a folder's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tooling import envs, lock


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Four files by their folders: `summary` includes the file of `benchmark`, which includes the file of
    `image`; `other` is separate."""
    texts = {
        "benchmark": "-r ../image/requirements.txt\nscipy\n",
        "image": "numpy\n",
        "other": "requests\n",
        "summary": "-r ../benchmark/requirements.in\n",
    }
    found = {}
    for name, text in texts.items():
        found[name] = tmp_path / name / "requirements.in"
        found[name].parent.mkdir()
        found[name].write_text(text)
    return found


def test_each_file_comes_after_the_files_that_it_includes(sources: dict[str, Path]) -> None:
    found = [path.parent.name for path in lock.ordered(reversed(sources.values()))]
    assert sorted(found) == sorted(sources)
    assert found.index("image") < found.index("benchmark") < found.index("summary")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("image", ["benchmark", "image", "summary"]),
        ("benchmark", ["benchmark", "summary"]),
        ("other", ["other"]),
    ],
)
def test_file_is_resolved_with_the_files_that_include_it(
    sources: dict[str, Path], name: str, expected: list[str]
) -> None:
    found = lock.dependents(sources[name], sources.values())
    assert [path.parent.name for path in found] == expected


def test_only_the_resolution_of_all_files_upgrades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs, "uv", lambda: Path("uv"))
    commands = {upgrade: lock.command(envs.ROOT / "requirements.in", upgrade) for upgrade in (True, False)}
    assert [each for each in commands[True] if each not in commands[False]] == ["--upgrade"]


def test_folder_without_requirements_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lock.main([str(tmp_path)])
    assert f"folder must have a requirements.in, got {tmp_path}" in capsys.readouterr().err
