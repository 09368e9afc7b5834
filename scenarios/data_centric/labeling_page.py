"""Screenshots of the labeling page with a task of a run."""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from scenarios import Figure, Progress, aws, browser
from scenarios.data_centric.labelers import Labeler

if TYPE_CHECKING:
    from playwright.sync_api import ViewportSize

SECONDS = 10
"""Timeout of a visit to the page. It is shorter than the lease of the task that the page shows."""
SIZE: ViewportSize = {"width": 860, "height": 600}
"""In CSS pixels: about the narrowest page that shows the picture beside the classes."""
SCALE, QUALITY = 1.5, 80
DECODED = """(images, milliseconds) => Promise.race([
  Promise.all(images.map((image) => image.decode())),
  new Promise((_, fail) => setTimeout(() => fail(new Error("pictures did not load in time")), milliseconds)),
])"""
LOG = "labeling-page-error.txt"

Kind = Literal["label", "review"]
TITLES = {"label": "The labeling page", "review": "The labeling page in a review"}
ALTS = {
    "label": "The picture of a digit, with a button for each class and one for “Unsure”.",
    "review": "The picture of a digit, the given and the suggested label, why it is suspected and the most"
    " similar digits, with a button for each class and one for “Unsure”.",
}


@dataclass
class LabelingPage:
    """Takes screenshots of the deployed labeling page, for the report.

    An error of the browser does not fail the scenario: `notes` and a progress message name the missing
    screenshot and the reason.
    """

    outputs: Mapping[str, str]
    """The stack's outputs"""
    out: Path
    """Folder for the screenshots"""
    progress: Progress
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self, run: str, labeler: Labeler, kind: Kind) -> float:
        """Add a screenshot of the page with a task of an open run. Return the seconds that this took.

        The task is leased to the labeler and not answered. The labeler's next request for a task returns it
        again; after the lease has expired, other labelers may get it.
        """
        if self.notes:  # do not try again after the browser has failed
            return 0.0
        begun = time.monotonic()
        self.progress("taking a screenshot of the labeling page")
        try:
            light, dark = take(aws.address(self.outputs["SiteUrl"]), run, labeler, self.out, kind)
            caption = "The deployed page in headless Chromium, signed in as a labeler of this run."
            self.figures.append(Figure(TITLES[kind], light, ALTS[kind], caption, dark))
        except browser.BrowserMissingError as error:
            self._miss(f"there is no browser on this machine: {error}")
        except Exception as error:  # from the browser, its driver or the page
            (self.out / LOG).write_text("".join(traceback.format_exception(error)))
            told = str(error).strip().partition("\n")[0].rstrip(".")
            self._miss(f"the browser failed, see {LOG}: {type(error).__name__}: {told}")
        return time.monotonic() - begun

    def _miss(self, reason: str) -> None:
        note = f"A screenshot of the labeling page is missing because {reason}."
        self.notes.append(note)
        self.progress(note)


def take(
    site: str, run: str, labeler: Labeler, out: Path, kind: Kind, seconds: float = SECONDS
) -> tuple[Path, Path]:
    """Sign in on the page, open a run, and take screenshots of a task in the light and the dark scheme.

    Raises `BrowserMissingError`, or Playwright's `Error` if the task is not shown within `seconds`.
    """
    end = time.monotonic() + seconds
    with browser.chromium(seconds=seconds) as running:
        page = running.new_context(
            viewport=SIZE, device_scale_factor=SCALE, locale="en-GB", reduced_motion="reduce"
        ).new_page()

        def milliseconds() -> float:
            return max(1.0, 1000 * (end - time.monotonic()))

        page.set_default_timeout(milliseconds())
        page.goto(f"{site}/#/runs/{run}")
        browser.sign_in(page, labeler.email, labeler.password)
        # the classes are enabled when the picture of the task is shown
        page.locator(".classes .choice[aria-disabled=false]").first.wait_for(timeout=milliseconds())
        page.locator("main img").evaluate_all(DECODED, milliseconds())
        instructions = page.get_by_role("region", name="Instructions").get_by_role("button", name="Close")
        if instructions.is_visible():
            instructions.click(timeout=milliseconds())
        light, dark = out / f"{kind}-page.webp", out / f"{kind}-page-dark.webp"
        schemes: tuple[tuple[Literal["light", "dark"], Path], ...] = (("light", light), ("dark", dark))
        for scheme, path in schemes:
            page.emulate_media(color_scheme=scheme)
            shot = page.screenshot(full_page=True, animations="disabled", timeout=milliseconds())
            Image.open(io.BytesIO(shot)).convert("RGB").save(path, "WEBP", quality=QUALITY)
    return light, dark
