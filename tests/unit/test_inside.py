"""Selection of an image's tests by `tests.support.inside`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import inside


@pytest.mark.parametrize(
    ("own", "expected"), [(False, "inside"), (True, "inside_train")], ids=["shared", "own"]
)
def test_images_own_folder_of_tests_is_preferred(
    own: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "TESTS", tmp_path)
    for name in ("inside", "inside_train") if own else ("inside",):
        (tmp_path / "notes" / name).mkdir(parents=True)
    assert inside.tests_of(Path("containers/notes/train")) == tmp_path / "notes" / expected


@pytest.mark.parametrize(("given", "got"), [([], "none"), (["notes/train", "-k", "x"], "notes/train")])
def test_unknown_image_is_refused_with_the_images(
    given: list[str], got: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside.main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("the first argument must be one of ")
    assert said.endswith(f", got {got}\n")
