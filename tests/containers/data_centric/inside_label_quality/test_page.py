"""The page of the most suspected examples."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from label_quality import page
from label_quality.suspects import Suspect

SUSPECT = Suspect(0, ("label",), 0, 1, 0.1, 0.9, "0.9 > 0.1 & <b>bold</b>", (2, 1))


def test_pictures_are_part_of_the_page(make_examples: Callable[..., Any]) -> None:
    # given
    pixels = np.arange(3 * 64).reshape(3, 8, 8)
    examples = make_examples(pixels, [0, 1, 0])
    # when
    text = page.rendered(examples, [0, 1, 0], ["cat", "dog"], [SUSPECT], 7).decode()
    # then the suspect and its neighbours are shown, in this order, enlarged
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(each))))
        for each in re.findall(r"base64,([^\"]+)", text)
    ]
    assert [each[0, 0] for each in shown] == [0, 128, 64]
    assert re.findall(r"<figcaption>(\w+)", text) == ["cat", "dog"]
    assert 'width="96"' in text
    assert "1 of 7 suspects among 3 examples" in text
    assert "cat, perhaps dog" in text


def test_text_is_escaped_and_nothing_is_loaded(make_examples: Callable[..., Any]) -> None:
    text = page.rendered(
        make_examples(np.zeros((3, 8, 8)), [0, 1, 0]), [0, 1, 0], ["<cat>", "dog"], [SUSPECT], 1
    ).decode()
    assert "0.9 &gt; 0.1 &amp; &lt;b&gt;bold&lt;/b&gt;" in text
    assert "<cat>" not in text
    assert "<b>" not in text
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
