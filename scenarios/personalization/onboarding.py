"""The record of a user in the scenario."""

from __future__ import annotations

from dataclasses import dataclass, field

from scenarios.personalization.people import Person
from scenarios.personalization.pictures import Subject


@dataclass
class Onboarding:
    """A user's steps to a model. Times are in seconds since the start of the model's training request."""

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
