"""The record of a user in the scenario."""

from __future__ import annotations

from dataclasses import dataclass, field

from scenarios.personalization.people import Person
from scenarios.personalization.pictures import Subject


@dataclass
class Onboarding:
    """A user's steps to a model, with times in seconds since the request to train it.

    `cold` and `warm` are the seconds of a request for pictures: of the first, which loads the adapter, and of
    a later one.
    """

    person: Person
    subject: Subject
    model: str = ""
    trigger: str = ""
    first_image: float = float("nan")
    ready: float = float("nan")
    seen: list[tuple[float, str, float]] = field(default_factory=list)  # (seconds, stage, completed share)
    previews: list[bytes] = field(default_factory=list)
    generated: list[bytes] = field(default_factory=list)
    cold: float = float("nan")
    warm: float = float("nan")
    generation: str = ""
    addresses: list[str] = field(default_factory=list)
