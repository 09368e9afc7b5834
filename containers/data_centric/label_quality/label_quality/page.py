"""The page of the most suspicious examples: an HTML file without scripts and without links to other files."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from .examples import Examples
from .suspects import Suspect

LONGEST = 300
"""Maximum number of characters of a shown text"""
LEAST_PIXELS = 96
"""Minimum side of a shown picture in pixels. Smaller pictures are enlarged"""

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Suspected labels</title>
<style>
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; }
ol { list-style: none; padding: 0; display: grid; gap: 1rem;
 grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
li { border: 1px solid #8886; border-radius: .5rem; padding: .75rem; }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; }
img { image-rendering: pixelated; border-radius: .25rem; background: #fff; }
figure { margin: 0; text-align: center; font-size: .8rem; }
.neighbours { display: flex; flex-wrap: wrap; gap: .5rem; }
.neighbours img { width: 48px; height: 48px; }
.source { font-size: .8rem; overflow-wrap: anywhere; opacity: .8; }
</style>
</head>
<body>
"""


def rendered(
    examples: Examples, labels: Any, names: Sequence[str], suspects: Sequence[Suspect], total: int
) -> bytes:
    """Return the page.

    :param labels: [n], the examples' labels, shown with a suspect's neighbours
    :param total: number of suspects, of which `suspects` are shown
    """
    items = "".join(_item(examples, labels, names, suspect) for suspect in suspects)
    return (
        f"{HEAD}<h1>Suspected labels</h1>\n"
        f"<p>{len(suspects)} of {total} suspects among {len(examples.lines)} examples,"
        " most suspected first.</p>\n"
        f"<ol>\n{items}</ol>\n</body>\n</html>\n"
    ).encode()


def _item(examples: Examples, labels: Any, names: Sequence[str], suspect: Suspect) -> str:
    given, suggested = names[suspect.given], names[suspect.suggested]
    head = f"{given}, perhaps {suggested}" if given != suggested else given
    pictures = "".join(
        f"<figure>{_picture(examples, each, f'similar example labeled {names[labels[each]]}')}"
        f"<figcaption>{_text(names[int(labels[each])])}</figcaption></figure>"
        for each in suspect.neighbours
    )
    return (
        f"<li><h2>{_text(head)}</h2>\n{_picture(examples, suspect.index, f'example labeled {given}')}\n"
        f"<p>{_text(suspect.reason)}</p>\n"
        f'<div class="neighbours">{pictures}</div>\n'
        f'<p class="source">{_text(examples.lines[suspect.index].source)}</p></li>\n'
    )


def _text(text: str) -> str:
    return html.escape(text if len(text) <= LONGEST else f"{text[:LONGEST]}...")


def _picture(examples: Examples, index: int, alternative: str) -> str:
    if examples.pictures is None:
        return ""
    pixels = examples.pictures[index]
    content = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(content, "PNG")
    size = max(LEAST_PIXELS, len(pixels))
    data = base64.b64encode(content.getvalue()).decode()
    return (
        f'<img src="data:image/png;base64,{data}" width="{size}" height="{size}" alt="{_text(alternative)}">'
    )
