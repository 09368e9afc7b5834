"""Actions of a user on the page."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

HASTE = "{ const wait = setTimeout; window.setTimeout = (work, ms, ...rest) => wait(work, ms / 5, ...rest); }"
"""Script that divides the page's timeouts by five."""


def hasty(browser: Browser) -> Page:
    """Open a page in a new profile, with shorter polling intervals."""
    context = browser.new_context(locale="en-GB")
    context.add_init_script(HASTE)
    return context.new_page()


def fill_in(page: Page, pictures: list[Path], name: str = "Miso", subject: str = "cat") -> None:
    page.get_by_role("link", name=re.compile("model$")).click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("What is it?").fill(subject)
    page.get_by_label("Choose pictures").set_input_files(pictures)
    expect(page.get_by_text(f"{len(pictures)} of up to 20 chosen.")).to_be_visible()


def created(page: Page, pictures: list[Path], name: str = "Miso", subject: str = "cat") -> None:
    fill_in(page, pictures, name, subject)
    page.get_by_role("button", name="Upload and start").click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def drawn(page: Page, prompt: str, seed: int | str = "", count: int = 1) -> None:
    page.get_by_label("What do you want to see?").fill(prompt)
    page.get_by_label("Seed").fill(str(seed))
    page.get_by_label("How many").select_option(str(count))
    page.get_by_role("button", name="Make pictures").click()
