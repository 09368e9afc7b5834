"""The command-line arguments of the label-quality job."""

from __future__ import annotations

import pytest

from label_quality.settings import Settings, named
from toolkit.failure import FatalError


def test_hyphens_in_names_are_underscores() -> None:
    found = Settings.read(named(["--attribute", "animal", "--most-unreadable", "3", "--side", "16"]))
    assert (found.attribute, found.most_unreadable, found.side, found.folds) == ("animal", 3, 16, 5)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--attribute"], "arguments must be pairs of --NAME VALUE, got --attribute"),
        (["attribute", "a"], "an argument's name must begin with --, got attribute"),
        (["--folds", "3", "--folds", "4"], "argument folds must be given once, got it twice"),
        (["--folds", "1"], "argument folds must be a whole number from 2 to 20"),
        (["--fold", "3"], "argument fold is unknown, must be one of "),
        ([], "argument attribute is missing, must be the label's attribute in the manifest"),
    ],
)
def test_invalid_argument_is_named(words: list[str], reason: str) -> None:
    with pytest.raises(FatalError) as raised:
        Settings.read(named(words))
    assert str(raised.value).startswith(reason)
