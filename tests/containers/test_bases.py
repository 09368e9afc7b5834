"""Every image starts from a base that somebody chose, on a day that is written down."""

from __future__ import annotations

import datetime
import tomllib

from tooling import envs

CONTAINERS = envs.ROOT / "containers"
BASES = {base["image"]: base for base in tomllib.loads((CONTAINERS / "bases.toml").read_text())["base"]}


def test_every_dockerfile_starts_from_a_listed_base():
    dockerfiles = list(CONTAINERS.glob("*/Dockerfile"))
    assert dockerfiles
    for path in dockerfiles:
        starts = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("FROM ")]
        assert starts
        for image in starts:
            assert image in BASES, f"{path} starts FROM {image}, which containers/bases.toml does not list"


def test_a_base_has_a_tag_or_digest_and_the_day_it_was_chosen():
    for image, base in BASES.items():
        assert ":" in image.rpartition("/")[2]
        assert not image.endswith(":latest")
        assert isinstance(base["chosen"], datetime.date)
        assert base["why"]
