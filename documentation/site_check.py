"""Open every page of the built site in headless Chromium; check accessibility (axe), pictures, width, errors.

    make docs && .groundplan/envs/app/bin/python -m documentation.site_check [PAGE ...]

Each page is opened at the widths of a desktop and of a phone, with light and dark colors. Screenshots are
written to `out/site/`. Exits with 1 if a page has a finding.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from scenarios import browser
from tooling.envs import ROOT

SITE, SCREENSHOTS = ROOT / "out" / "docs", ROOT / "out" / "site"
WIDTHS = {"wide": 1440, "phone": 390}
COLORS: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LEAST_TEXT = 7
"""Minimum height of the text in a diagram, in pixels, at the width of a desktop"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Do not print requests."""


def pages() -> list[str]:
    """Return the paths of all pages."""
    return sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if path.name != "404.html")


def check(opened: Browser, address: str, path: str) -> Iterator[str]:
    """Yield the findings of a page, and write its screenshots."""
    for width, pixels in WIDTHS.items():
        for colors in COLORS:
            page = opened.new_page(viewport={"width": pixels, "height": 900}, color_scheme=colors)
            errors: list[str] = []
            page.on("pageerror", lambda error, found=errors: found.append(str(error)))
            page.goto(address + path, wait_until="networkidle")
            for finding in [*errors, *_findings(page, width)]:
                yield f"{path} ({width}, {colors}): {finding}"
            name = path.removesuffix(".html").removesuffix("/index").replace("/", "-")
            page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{colors}.png", full_page=True)
            page.close()


def _findings(page: Page, width: str) -> Iterator[str]:
    for violation in Axe().run(page).response["violations"]:
        places = ", ".join(str(node["target"]) for node in violation["nodes"][:3])
        yield f"axe: {violation['help']}: {places}"
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        yield "the page must not be wider than the window"
    for picture in page.locator("article img").all():
        source = picture.get_attribute("src") or ""
        if not picture.evaluate("image => image.complete && image.naturalWidth > 0"):
            yield f"{source} could not be loaded"
        elif source.endswith(".svg") and width == "wide":
            # the smallest text, 9 points or 12 pixels, is scaled by the ratio of shown to natural width
            ratio = picture.evaluate("image => image.getBoundingClientRect().width / image.naturalWidth")
            if ratio * 12 < LEAST_TEXT:
                yield f"the text in {source} must be {LEAST_TEXT} pixels high, got {ratio * 12:.1f}"


def main() -> int:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(SITE)))
    Thread(target=server.serve_forever, daemon=True).start()
    found = 0
    with browser.chromium() as opened:
        for path in sys.argv[1:] or pages():
            for finding in check(opened, f"http://127.0.0.1:{server.server_port}/", path):
                print(finding, flush=True)
                found += 1
    server.shutdown()
    print(f"{found} findings; screenshots in {SCREENSHOTS.relative_to(ROOT)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
