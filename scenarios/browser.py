"""Headless Chromium, as installed on this machine, for the applications' web pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class BrowserMissingError(Exception):
    """This machine has no browser. The message has the names of the programs that were searched for."""


def program() -> str:
    """Return the path of the browser. Raises `BrowserMissingError`."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not found:
        raise BrowserMissingError(f"none of {', '.join(PROGRAMS)} is installed")
    return found


@contextmanager
def chromium(*arguments: str, seconds: float = 30) -> Iterator[Browser]:
    """Start a browser, and close it at the end. Raises `BrowserMissingError`, or Playwright's `Error`.

    :param arguments: additional command-line arguments
    :param seconds: timeout of the browser's start
    """
    path = program()
    # imported here, because the other functions work without Playwright
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not start as root, the usual user in containers
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*root, *arguments], timeout=1000 * seconds
        )
        yield browser
        browser.close()


def sign_in(page: Page, user: str, password: str) -> None:
    """Fill in and submit the sign-in form of an open page."""
    page.get_by_label("Email").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
