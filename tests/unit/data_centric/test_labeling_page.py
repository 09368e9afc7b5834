"""Pictures of the labeling page in a report, also when there is no browser, or the browser fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scenarios import browser
from scenarios.data_centric import labeling_page
from scenarios.data_centric.labelers import Labeler
from scenarios.data_centric.labeling_page import LabelingPage

ANN = Labeler("ann", "", "", "", email="ann@example.org", password="-")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def page(tmp_path: Path, told: list[str]) -> LabelingPage:
    return LabelingPage({"SiteUrl": "https://d1.cloudfront.net"}, tmp_path, told.append)


def test_missing_browser_is_one_sentence_of_the_report(
    page: LabelingPage, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(browser, "PROGRAMS", ("no-such-browser",))
    # when
    page.show("digits", ANN, "label")
    page.show("digits-review", ANN, "review")
    # then
    sentence = (
        "A screenshot of the labeling page is missing because there is no browser on this machine: none of"
        " no-such-browser is installed."
    )
    assert (page.figures, page.notes, told[-1]) == ([], [sentence], sentence)


def test_failure_of_the_browser_is_reported_once_with_its_log(
    page: LabelingPage, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    def fail(*_: Any) -> tuple[Path, Path]:
        raise TimeoutError("Timeout 10000ms exceeded.\nCall log:\n- waiting")

    monkeypatch.setattr(labeling_page, "take", fail)
    # when
    page.show("digits", ANN, "label")
    page.show("digits-review", ANN, "review")
    # then
    (note,) = page.notes
    assert note.endswith("labeling-page-error.txt: TimeoutError: Timeout 10000ms exceeded.")
    assert told[-1] == note
    assert "- waiting" in (tmp_path / "labeling-page-error.txt").read_text()
    assert page.figures == []


def test_figure_of_the_page_has_both_schemes(
    page: LabelingPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    asked: list[tuple[Any, ...]] = []

    def take(*given: Any) -> tuple[Path, Path]:
        asked.append(given)
        return tmp_path / "light.webp", tmp_path / "dark.webp"

    monkeypatch.setattr(labeling_page, "take", take)
    monkeypatch.delenv("GROUNDPLAN_ADDRESS", raising=False)
    # when
    seconds = page.show("digits", ANN, "review")
    # then
    assert asked == [("https://d1.cloudfront.net", "digits", ANN, tmp_path, "review")]
    (figure,) = page.figures
    assert (figure.path.name, figure.dark) == ("light.webp", tmp_path / "dark.webp")
    assert (page.notes, seconds >= 0) == ([], True)
