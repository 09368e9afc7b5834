"""The clock of a replay. It can be paused, moved forward and run at another rate, but not set back."""

from __future__ import annotations

import time
from collections.abc import Callable


class ReplayClock:
    """The clock of a replay.

    :param start: hours since 1970
    :param rate: seconds of the replay for each real second
    :param real: returns the real time in seconds
    """

    def __init__(
        self, start: float, rate: float, *, paused: bool = False, real: Callable[[], float] = time.monotonic
    ) -> None:
        self.real = real
        self._base, self._since = start, real()
        self.rate, self.paused = rate, paused

    def now(self) -> float:
        """Return the replay's time in hours since 1970."""
        running = 0.0 if self.paused else (self.real() - self._since) * self.rate / 3_600
        return self._base + running

    def set(
        self,
        *,
        to: float | None = None,
        step: float = 0,
        rate: float | None = None,
        paused: bool | None = None,
    ) -> None:
        """Move or change the clock. Raises `ValueError` for a move back or a rate that is not positive.

        :param to: new time in hours since 1970; default: the present time
        :param step: hours to move forward
        """
        given = [value for value in (to, step, rate) if value is not None]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
            raise ValueError("step and rate must be numbers")
        now = self.now()
        target = (now if to is None else to) + step
        if target < now:
            raise ValueError(
                "the clock cannot go back: the hour must not be before the replay's present time"
            )
        if rate is not None and not rate > 0:
            raise ValueError(f"rate must be above 0, got {rate}")
        self._base, self._since = target, self.real()
        self.rate = self.rate if rate is None else rate
        self.paused = self.paused if paused is None else paused
