"""Actions of a labeler on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, expect


def open_run(page: Page, run: str) -> None:
    """Go from the list of runs to a run, and close its instructions."""
    page.get_by_role("link", name=run, exact=True).click()
    expect(page.get_by_role("heading", name=run, level=1)).to_be_focused()
    page.get_by_role("button", name="Close").click()


def choice(page: Page, name: str) -> Locator:
    """Return the button of a class, or of "Unsure"."""
    return page.locator(".choice").filter(has_text=re.compile(rf"(^|[0-9A-Z]){re.escape(name)}$"))


def expect_task(page: Page) -> str:
    """Wait until a task can be answered; return its picture's key, or its text."""
    expect(choice(page, "Unsure")).to_have_attribute("aria-disabled", "false")
    picture = page.get_by_role("img", name="The picture to label")
    if picture.count():
        return urlsplit(picture.get_attribute("src") or "").path.lstrip("/")
    return page.get_by_label("The text to label").inner_text()


def expect_answers(page: Page, count: int) -> None:
    """Wait until the page shows that the labeler has given `count` answers."""
    words = "1 answer by you" if count == 1 else f"{count} answers by you"
    expect(page.get_by_text(words)).to_be_visible()


def label(page: Page, answer: Callable[[str], str], most: int) -> list[str]:
    """Label with keys until no task is left, at most `most` tasks. Return the pictures' keys, or the texts,
    in the order of the tasks.

    :param answer: returns the key to press for a picture's key or a text
    """
    seen: list[str] = []
    end = page.get_by_role("button", name="Look again")
    while len(seen) < most:
        expect(end.or_(choice(page, "Unsure").and_(page.locator("[aria-disabled=false]")))).to_be_visible()
        if end.is_visible():
            break
        seen.append(expect_task(page))
        page.keyboard.press(answer(seen[-1]))
        expect_answers(page, len(seen))
    return seen
