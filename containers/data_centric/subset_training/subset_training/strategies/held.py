"""Reuse of a selection over several epochs."""

from __future__ import annotations

from typing import Any

from ..selection import Selection, State, Strategy


class Held:
    """Select in every `interval`-th epoch, and reuse the selection in between.

    A selection costs a forward pass over the training set.
    """

    def __init__(self, strategy: Strategy, interval: int):
        self.strategy, self.interval = strategy, interval
        self.kept: Selection | None = None

    def select(self, state: State, k: int) -> Selection:
        if self.kept is None or state.epoch % self.interval == 0:
            self.kept = self.strategy.select(state, k)
        return self.kept

    def state_dict(self) -> dict[str, Any]:
        kept = None if self.kept is None else list(self.kept)
        return {"kept": kept, "strategy": self.strategy.state_dict()}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        self.kept = None if found["kept"] is None else Selection(*found["kept"])
        self.strategy.load_state_dict(found["strategy"])
