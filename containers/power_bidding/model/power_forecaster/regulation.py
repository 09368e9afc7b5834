"""Co-optimization of energy and regulation in one linear program.

Regulation up is capacity to raise the output when the grid operator calls it, regulation down to lower it.
Capacity is paid whether or not it is called; called energy settles at the energy price. Each hour has three
states: scheduled, fully called up and fully called down. The called states take their expected shares of the
hour. In each state s

    charge[s] + discharge[s] <= power
    discharge[up] - charge[up] = discharge - charge + capacity up
    discharge[down] - charge[down] = discharge - charge - capacity down

The expected level after the hour is the sum over the states, weighted by their shares, with the losses of the
battery's actual output: a call up during charging reduces the charging. In addition, the battery must be able
to follow a full call in either direction for a part of the hour.

QuEST (Nguyen et al., 2019) is more restrictive: calls add charging or discharging to the schedule, each with
its own losses, and schedule and capacity share one power limit. `Regulation.shared_power` selects this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import highspy
import numpy as np

from toolkit.failure import FatalError

from .storage import Asset, Doubles, Entry, assembled, checked_prices, optimum, solver

_INFINITE = highspy.kHighsInf


@dataclass(frozen=True)
class Regulation:
    """Terms of an asset's regulation offers."""

    called_up: float = 0.25
    """Expected share of the hour in which capacity up is fully called"""
    called_down: float = 0.25
    sustained: float = 1.0
    """Share of the hour for which the battery must be able to follow a full call, starting with the
    expected level before the hour; 0: only the expected level after the hour is limited"""
    shared_power: bool = False
    """Whether to use QuEST's formulation: charge + discharge + capacity up + capacity down <= power, and
    calls add to the schedule"""

    def checked(self) -> Regulation:
        """Return the terms. Raises `FatalError` that names an invalid field."""
        for name in ("called_up", "called_down", "sustained"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise FatalError(f"regulation: {name} must be a number from 0 to 1, got {value:g}")
        if self.called_up + self.called_down > 1:
            raise FatalError(
                "regulation: the sum of called_up and called_down must be at most 1,"
                f" got {self.called_up:g} and {self.called_down:g}"
            )
        return self


def regulation_of(given: Any, where: str) -> Regulation:
    """Return the terms from a TOML table. Missing fields get their defaults.

    Raises `FatalError` that names the field.

    :param where: name of the file, for errors
    """
    if not isinstance(given, Mapping):
        raise FatalError(f"{where}: regulation must be a table such as [regulation], got {given!r}")
    body = cast(Mapping[str, Any], given)
    names = [field.name for field in fields(Regulation)]
    for name, value in body.items():
        if name not in names:
            raise FatalError(f"{where}: regulation.{name} is unknown, must be one of {', '.join(names)}")
        if name == "shared_power":
            if not isinstance(value, bool):
                raise FatalError(f"{where}: regulation.shared_power must be true or false, got {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise FatalError(f"{where}: regulation.{name} must be a number, got {value!r}")
    return Regulation(**body).checked()


@dataclass(frozen=True)
class Prices:
    """Prices of T hours."""

    energy: Doubles
    """[T] dollars per MWh"""
    up: Doubles
    """[T] dollars per MW of capacity up"""
    down: Doubles
    """[T] dollars per MW of capacity down"""


@dataclass(frozen=True)
class RegulatedSchedule:
    """A schedule of T hours."""

    charge: Doubles
    """[T] MW while no capacity is called"""
    discharge: Doubles
    """[T] MW while no capacity is called"""
    up: Doubles
    """[T] MW of capacity sold"""
    down: Doubles
    """[T] MW of capacity sold"""
    level: Doubles
    """[T] MWh expected at the end of each hour"""
    discharged: Doubles
    """[T] expected MWh of discharge, calls included"""
    terms: Regulation

    @property
    def net(self) -> Doubles:
        """[T] MW sold while no capacity is called; negative for purchases."""
        return self.discharge - self.charge

    def capacity_payment(self, prices: Prices) -> float:
        """Return the capacity payments in dollars."""
        return float(self.up @ prices.up + self.down @ prices.down)

    def profit(self, prices: Prices, asset: Asset) -> float:
        """Return the expected profit in dollars, after battery degradation."""
        sold = self.net + self.terms.called_up * self.up - self.terms.called_down * self.down
        energy = float(sold @ prices.energy - asset.degradation * self.discharged.sum())
        return energy + self.capacity_payment(prices)


CHARGE, DISCHARGE, LEVEL, CHARGE_UP, DISCHARGE_UP, CHARGE_DOWN, DISCHARGE_DOWN, UP, DOWN = range(9)
"""Variables of the program, each with T columns."""


class RegulationScheduler:
    """The linear program for `hours` hours. It is built once; each solve starts from the last solution."""

    def __init__(self, asset: Asset, terms: Regulation, hours: int):
        self.asset, self.terms, self.hours = asset, terms, hours
        rows = _Rows(asset, terms, hours)
        self._first = rows.first
        self._solver = solver(rows.program())
        self._columns = np.arange(9 * hours, dtype=np.int32)
        self._states = (
            (1 - terms.called_up - terms.called_down, CHARGE, DISCHARGE),
            (terms.called_up, CHARGE_UP, DISCHARGE_UP),
            (terms.called_down, CHARGE_DOWN, DISCHARGE_DOWN),
        )

    def solve(
        self, prices: Prices, level: float | None = None, final: float | None = None
    ) -> RegulatedSchedule:
        """Return the optimal schedule and capacity.

        :param level: stored MWh before the first hour; None: `asset.initial`
        :param final: minimum expected stored MWh after the last hour; None: `asset.final`
        Raises `OptimizationError`.
        """
        n, asset, h = self.hours, self.asset, self._solver
        before = asset.retention * (asset.initial if level is None else level)
        final = asset.final if final is None else final
        energy = checked_prices(prices.energy, n)
        costs = np.zeros((9, n))
        for share, charge, discharge in self._states:
            costs[charge] = -share * energy
            costs[discharge] = share * (energy - asset.degradation)
        costs[UP] = checked_prices(prices.up, n, "prices of regulation up")
        costs[DOWN] = checked_prices(prices.down, n, "prices of regulation down")
        h.changeColsCost(9 * n, self._columns, costs.ravel())
        for row, lower, upper in self._first:
            h.changeRowBounds(row, lower - before, upper - before)
        h.changeColBounds((LEVEL + 1) * n - 1, max(asset.lowest, final), asset.energy)
        x = np.array(optimum(h).col_value).reshape(9, n)
        discharged = sum((share * x[discharge] for share, _, discharge in self._states), np.zeros(n))
        return RegulatedSchedule(x[CHARGE], x[DISCHARGE], x[UP], x[DOWN], x[LEVEL], discharged, self.terms)


class _Rows:
    """Rows of the program, in blocks of one row per hour."""

    def __init__(self, asset: Asset, terms: Regulation, hours: int):
        self.asset, self.hours, self.t = asset, hours, np.arange(hours)
        self.entries: list[Entry] = []
        self.lower: list[Doubles] = []
        self.upper: list[Doubles] = []
        self.first: list[tuple[int, float, float]] = []
        """Rows of the first hour that depend on the initial level: index, lower and upper bound with an empty
        store"""
        base, up, down = (CHARGE, DISCHARGE), (CHARGE_UP, DISCHARGE_UP), (CHARGE_DOWN, DISCHARGE_DOWN)
        called = terms.called_up + terms.called_down
        expected = ((1 - called, base), (terms.called_up, up), (terms.called_down, down))
        self._after(expected, 0, 0, (LEVEL, -1.0))
        for charge, discharge in (base, up, down):
            self._block(-_INFINITE, asset.power, (charge, 1), (discharge, 1))
        self._block(0, 0, *_output(up), *_output(base, -1), (UP, -1))
        self._block(0, 0, *_output(base), *_output(down, -1), (DOWN, -1))
        if terms.sustained:
            rest = (1 - terms.sustained, base)
            self._after(((terms.sustained, up), rest), asset.lowest, _INFINITE)
            self._after(((terms.sustained, down), rest), -_INFINITE, asset.energy)
        if terms.shared_power:
            self._block(0, 0, (CHARGE_UP, 1), (CHARGE, -1))
            self._block(0, 0, (DISCHARGE_DOWN, 1), (DISCHARGE, -1))
            self._block(-_INFINITE, asset.power, (CHARGE, 1), (DISCHARGE, 1), (UP, 1), (DOWN, 1))
        if asset.ramp is not None:
            row = self._block(-asset.ramp, asset.ramp, *_output(base))
            self.lower[-1][0], self.upper[-1][0] = -_INFINITE, _INFINITE
            for column, value in _output(base, -1):
                self._add(row + self.t[1:], column, self.t[:-1], value)

    def _after(
        self,
        states: tuple[tuple[float, tuple[int, int]], ...],
        lower: float,
        upper: float,
        *more: tuple[int, float],
    ) -> None:
        """Limit the level after an hour in which each state lasts for its share of the hour."""
        asset = self.asset
        changes = [(charge, share * asset.charge_efficiency) for share, (charge, _) in states]
        changes += [(discharge, -share / asset.discharge_efficiency) for share, (_, discharge) in states]
        row = self._block(lower, upper, *changes, *more)
        self._add(row + self.t[1:], LEVEL, self.t[:-1], asset.retention)
        self.first.append((row, lower, upper))

    def _block(self, lower: float, upper: float, *places: tuple[int, float]) -> int:
        """Add one row per hour, with coefficients in columns of that hour. Return the first row's index."""
        row = len(self.lower) * self.hours
        for column, value in places:
            self._add(row + self.t, column, self.t, value)
        self.lower.append(np.full(self.hours, lower, np.float64))
        self.upper.append(np.full(self.hours, upper, np.float64))
        return row

    def _add(self, rows: Any, column: int, hours: Any, value: float) -> None:
        if value:
            self.entries.append((rows, column * self.hours + hours, value))

    def program(self) -> highspy.HighsLp:
        """Return the program with zero costs."""
        asset, hours = self.asset, self.hours
        lowest, highest = np.zeros(9), np.full(9, asset.power)
        lowest[LEVEL], highest[LEVEL] = asset.lowest, asset.energy
        highest[UP] = highest[DOWN] = 2 * asset.power
        columns = (np.repeat(lowest, hours), np.repeat(highest, hours))
        return assembled(self.entries, columns, (np.concatenate(self.lower), np.concatenate(self.upper)))


def _output(state: tuple[int, int], sign: float = 1) -> tuple[tuple[int, float], tuple[int, float]]:
    """Return the matrix entries of a state's output."""
    charge, discharge = state
    return (charge, -sign), (discharge, sign)
