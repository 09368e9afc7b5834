"""Figures of this architecture's report."""

from __future__ import annotations

import base64
import html
from itertools import groupby, pairwise
from pathlib import Path

from scenarios import Figure
from scenarios.drawing import FIRST, GRID, PALETTE, SECOND, THIRD, picture
from scenarios.personalization.onboarding import Onboarding

SIDE, GAP, LABEL = 92, 8, 22


def gallery(path: Path, way: Onboarding) -> Figure:
    """Draw three rows: a user's uploads, the first pictures of the training job, pictures of the endpoint."""
    uploads = [image.read_bytes() for image in way.subject.images]
    rows = [
        ("uploaded", uploads),
        ("first pictures, from the job", way.previews),
        ("from the endpoint", way.generated),
    ]
    columns = 4
    width = columns * (SIDE + GAP) - GAP
    parts, top = [], 0
    for label, images in rows:
        parts.append(
            f'<text x="0" y="{top + 14}" font-size="12" fill="{PALETTE["quiet"]}">{html.escape(label)}</text>'
        )
        top += LABEL
        for number, data in enumerate(images[:columns]):
            kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
            source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            parts.append(
                f'<image x="{number * (SIDE + GAP)}" y="{top}" width="{SIDE}" height="{SIDE}" '
                f'preserveAspectRatio="xMidYMid slice" href="{source}"/>'
            )
        top += SIDE + GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}">{"".join(parts)}</svg>\n'
    )
    return Figure(
        f"{way.person.name.capitalize()}: {way.subject.subject}",
        path,
        f"Three rows of pictures: what {way.person.name} uploaded of a {way.subject.subject}, the first "
        "pictures that the training job made, and those that the endpoint made.",
        f"{len(uploads)} uploads, of which four are shown. The generated pictures are small, like the base "
        f"model, which was trained on a laptop in minutes. First prompt: “a photo of {way.trigger}”.",
    )


STAGES = {"QUEUED": GRID, "LAUNCHED": SECOND, "TRAINING": FIRST, "PREPARING": THIRD}


def timeline(path: Path, ways: list[Onboarding]) -> Figure:
    """Draw the time that each user's model was in each state."""
    with picture(path, height=0.8 + 0.5 * len(ways)) as axes:
        for row, way in enumerate(ways):
            first = [next(seen) for _, seen in groupby(way.seen, key=lambda seen: seen[1])]
            for (begin, state, _), (end, _, _) in pairwise(first):
                axes.barh(row, end - begin, left=begin, color=STAGES.get(state, GRID), height=0.5)
            axes.plot(
                [way.first_image], [row], marker="o", markersize=5, color=PALETTE["ink"], linestyle="none"
            )
        for state, color in STAGES.items():
            axes.barh(0, 0, color=color, label=state.lower())
        axes.plot(
            [], [], marker="o", markersize=5, color=PALETTE["ink"], linestyle="none", label="first picture"
        )
        axes.set_yticks(range(len(ways)), [way.person.name for way in ways])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds since the model was started")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=3)
    told = ", ".join(f"{way.person.name} {way.ready:.0f} s" for way in ways)
    return Figure(
        "From start to ready",
        path,
        f"Bars of the states that each model went through. Ready after: {told}.",
        "All users started at the same time. A job gets all requests that wait when it is created. The first "
        "picture of each model comes from the training job, before the endpoint has the model.",
    )
