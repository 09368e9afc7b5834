"""Headless Chromium, as a test drives it: this machine's own, so that none has to be fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE_MS = 30_000
"""Timeout of actions and expectations; long, because the machine may be busy."""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser, for as long as the block. None can be installed without rights of the machine's owner, so a
    person without one skips these tests and is told; `GROUNDPLAN_BROWSER=required`, as in continuous
    integration, makes a missing one a failure."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not program:
        missing = f"none of {', '.join(PROGRAMS)} is on this machine (Debian: apt-get install chromium)"
        if os.environ.get("GROUNDPLAN_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    # Chromium's sandbox does not start as root, which containers often are
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*root, *arguments])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that one person looks at, in a browser profile of their own."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """What the browser's console said: errors of the page, and what its security policy forbade."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: object) -> None:
        kind, text = message.type, message.text  # pyright: ignore[reportAttributeAccessIssue]
        # That a server answered 4xx is what the page has to tell its user, and the tests look for that
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(f"{kind}: {text}")

    def barriers(self) -> list[str]:
        """What keeps people out, in light and in dark, wide and on a phone: what axe finds by the rules of
        WCAG 2.2 AA, and what sticks out of the screen."""
        found = set()
        schemes: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1200, "light"), (375, "dark"))
        for width, scheme in schemes:
            self.page.set_viewport_size({"width": width, "height": 760})
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
            for broken in Axe().run(self.page, options=rules).response["violations"]:
                nodes = ", ".join(node["html"][:120] for node in broken["nodes"])
                found.add(f"{broken['id']} ({width} px, {scheme}): {nodes}")
            if self.page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            ):
                found.add(f"wider than {width} px")
        self.page.set_viewport_size({"width": 1200, "height": 760})
        return sorted(found)


def sign_in(page: Page, user: str, password: str) -> None:
    page.get_by_label("Email").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
