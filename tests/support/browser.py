"""Headless Chromium in tests, and the page of one user in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from scenarios import browser

PATIENCE_MS = 30_000
"""Timeout of actions and expectations; long, because the machine may be busy."""

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start a browser. On a machine without a browser, the test is skipped, or it fails if
    `GROUNDPLAN_BROWSER=required`, as in continuous integration."""
    require_browser()
    with browser.chromium(*arguments) as running:
        yield running


def require_browser() -> None:
    """Skip the test, or fail it, on a machine without a browser."""
    try:
        browser.program()
    except browser.BrowserMissingError as error:
        missing = f"{error} (Debian: apt-get install chromium)"
        if os.environ.get("GROUNDPLAN_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)


@dataclass
class Visit:
    """A page of one user in a separate browser profile."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Uncaught errors, and errors and warnings in the browser's console, violations of the content security
    policy included."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: object) -> None:
        kind, text = message.type, message.text  # pyright: ignore[reportAttributeAccessIssue]
        # The page shows responses of status 4xx to its user, and the tests check for that
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(f"{kind}: {text}")

    def barriers(self) -> list[str]:
        """Return violations of WCAG 2.2 AA that the accessibility checker axe finds, and elements wider than
        the screen.

        The page is checked in light mode at the width of a desktop, and in dark mode at the width of a phone.
        """
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
