"""A storage asset, and the linear program that schedules it for given prices.

Maximise price * (discharge - charge) over T hours, under

    level' = retention * level + charge_efficiency * charge - discharge / discharge_efficiency
    charge + discharge <= power
    lowest <= level <= energy

The second constraint limits the sum of charge and discharge. With separate limits, the schedule would charge
and discharge at full power at the same time when the price is negative. The formulation is Sandia's (Nguyen
et al., QuEST, 2019), with an initial and a final state of charge. An asset with a ramp limit has an
additional constraint, on the change of `discharge - charge` between hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import highspy
import numpy as np

from toolkit.failure import FatalError

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Whole = np.ndarray[Any, np.dtype[np.int64]]
THREADS = 1
"""Number of threads of every `Highs` object. With different numbers in one process, the solver returned
zeros."""

_INFINITE = highspy.kHighsInf

LARGEST = 1e6
"""Maximum of an asset's power, energy or cost."""


class OptimizationError(Exception):
    """The linear program has invalid prices or no optimal solution. The message has the reason."""


@dataclass(frozen=True)
class Asset:
    """A price-taking battery."""

    power: float = 8.0
    """Maximum of charging plus discharging, in MW"""
    energy: float = 32.0
    """Maximum level in MWh"""
    charge_efficiency: float = 0.85
    discharge_efficiency: float = 1.0
    retention: float = 1.0
    """Share of the stored energy that is left after an idle hour"""
    lowest: float = 0.0
    """Minimum level in MWh"""
    degradation: float = 0.0
    """Dollars for each MWh discharged"""
    initial: float = 0.0
    """Stored MWh before the first hour, unless a measured level is given"""
    final: float = 0.0
    """Minimum stored MWh after the last hour"""
    ramp: float | None = None
    """Maximum change of the output in MW from one hour to the next; None: no limit"""

    def checked(self) -> Asset:
        """Return the asset. Raises `FatalError` that names a field outside its bounds."""
        for name, least, most, above in (
            ("power", 0, LARGEST, True),
            ("energy", 0, LARGEST, True),
            ("charge_efficiency", 0, 1, True),
            ("discharge_efficiency", 0, 1, True),
            ("retention", 0, 1, True),
            ("lowest", 0, self.energy, False),
            ("degradation", 0, LARGEST, False),
            ("initial", 0, self.energy, False),
            ("final", 0, self.energy, False),
            ("ramp", 0, LARGEST, True),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if not (least < value <= most or (value == least and not above)):
                bounds = f"{'above' if above else 'from'} {least:g} and up to {most:g}"
                raise FatalError(f"asset: {name} must be a number {bounds}, got {value:g}")
        return self


def asset_of(given: Mapping[str, Any], where: str) -> Asset:
    """Return an asset from its fields. Missing fields get their defaults.

    Raises `FatalError` that names the field.

    :param where: source of `given`, for errors
    """
    names = [field.name for field in fields(Asset)]
    for name, value in given.items():
        if name not in names:
            raise FatalError(f"{where}: {name} is unknown, must be one of {', '.join(names)}")
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise FatalError(f"{where}: {name} must be a number, got {value!r}")
    numbers = {name: float(value) for name, value in given.items() if value is not None}
    return Asset(**numbers).checked()


@dataclass(frozen=True)
class Schedule:
    """A schedule of T hours."""

    charge: Doubles
    """[T] MW"""
    discharge: Doubles
    """[T] MW"""
    level: Doubles
    """[T] MWh at the end of each hour"""
    water_value: Doubles
    """[T] value in dollars of one more MWh stored at the end of the hour"""

    @property
    def net(self) -> Doubles:
        """[T] MW sold in each hour; negative for purchases."""
        return self.discharge - self.charge

    def profit(self, prices: Doubles, asset: Asset) -> float:
        """Return the dollars earned at prices [T], minus battery degradation."""
        return float(self.net @ prices - asset.degradation * self.discharge.sum())


class Scheduler:
    """The linear program for `hours` hours. It is built once; each solve starts from the last solution."""

    def __init__(self, asset: Asset, hours: int):
        self.asset, self.hours = asset, hours
        self._solver = solver(_program(asset, hours))
        self._columns = np.arange(3 * hours, dtype=np.int32)
        self._costs = np.zeros(3 * hours)

    def solve(
        self,
        prices: Any,
        level: float | None = None,
        final: float | None = None,
        before: float | None = None,
    ) -> Schedule:
        """Return the best schedule.

        :param prices: [T] dollars per MWh
        :param level: stored MWh before the first hour; None: `asset.initial`
        :param final: minimum stored MWh after the last hour; None: `asset.final`
        :param before: MW sold in the hour before the first, for an asset with a ramp limit; None: unknown
        Raises `OptimizationError`.
        """
        n, asset = self.hours, self.asset
        level = asset.initial if level is None else level
        final = asset.final if final is None else final
        prices = checked_prices(prices, n)
        self._costs[:n] = -prices
        self._costs[n : 2 * n] = prices - asset.degradation
        h = self._solver
        h.changeColsCost(3 * n, self._columns, self._costs)
        h.changeRowBounds(0, asset.retention * level, asset.retention * level)
        h.changeColBounds(3 * n - 1, max(asset.lowest, final), asset.energy)
        if asset.ramp is not None:
            known = before is not None
            low, high = (before - asset.ramp, before + asset.ramp) if known else (-_INFINITE, _INFINITE)
            h.changeRowBounds(2 * n, low, high)
        found = optimum(h)
        x = np.array(found.col_value)
        return Schedule(x[:n], x[n : 2 * n], x[2 * n :], np.array(found.row_dual)[:n])


def checked_prices(prices: Any, hours: int, name: str = "prices") -> Doubles:
    """Return prices as an array [hours]. Raises `OptimizationError` unless all are finite.

    With a NaN the solver might run forever.
    """
    found = np.asarray(prices, np.float64)
    if found.shape != (hours,) or not np.isfinite(found).all():
        raise OptimizationError(f"{name} must be {hours} finite numbers")
    return found


def solver(program: highspy.HighsLp) -> highspy.Highs:
    """Return a solver for the program, without console output."""
    found = highspy.Highs()
    quiet = (("log_to_console", False), ("output_flag", False))
    for name, option in (*quiet, ("threads", THREADS), ("parallel", "off")):
        found.setOptionValue(name, option)
    # refactorizing a small basis is faster than checking whether that is needed
    found.setOptionValue("no_unnecessary_rebuild_refactor", False)
    found.passModel(program)
    return found


def optimum(highs: highspy.Highs) -> highspy.HighsSolution:
    """Solve, starting from the last solution. Raises `OptimizationError` if there is no optimum."""
    highs.run()
    if (status := highs.getModelStatus()) != highspy.HighsModelStatus.kOptimal:
        raise OptimizationError(f"the linear program has no optimum: {highs.modelStatusToString(status)}")
    return highs.getSolution()


Entry = tuple[Whole, Whole, float]
"""Matrix entries with the same coefficient: (rows, columns, coefficient)."""


def assembled(
    entries: list[Entry], columns: tuple[Doubles, Doubles], rows: tuple[Doubles, Doubles]
) -> highspy.HighsLp:
    """Return a maximisation program with zero costs.

    :param columns: lower and upper bound of each column
    :param rows: lower and upper bound of each row
    """
    row = np.concatenate([found for found, _, _ in entries])
    column = np.concatenate([found for _, found, _ in entries])
    values = np.concatenate([np.full(len(found), value) for found, _, value in entries])
    order = np.lexsort((column, row))
    count = len(rows[0])
    found = highspy.HighsLp()
    found.num_col_, found.num_row_ = len(columns[0]), count
    found.sense_ = highspy.ObjSense.kMaximize
    found.col_cost_ = np.zeros(len(columns[0]))
    found.col_lower_, found.col_upper_ = columns
    found.row_lower_, found.row_upper_ = rows
    matrix = found.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = np.r_[0, np.cumsum(np.bincount(row, minlength=count))]
    matrix.index_, matrix.value_ = column[order], values[order]
    return found


def _program(asset: Asset, hours: int) -> highspy.HighsLp:
    """Return the program without prices. Columns: charge [T], discharge [T], level [T]; rows: balance [T],
    power [T] and, if the asset has a ramp limit, ramp [T]."""
    t = np.arange(hours)
    entries: list[Entry] = [
        (t, 2 * hours + t, 1.0),
        (t, t, -asset.charge_efficiency),
        (t, hours + t, 1 / asset.discharge_efficiency),
        (t[1:], 2 * hours + t[:-1], -asset.retention),
        (hours + t, t, 1.0),
        (hours + t, hours + t, 1.0),
    ]
    lower = [np.zeros(hours), np.full(hours, -_INFINITE)]
    upper = [np.zeros(hours), np.full(hours, asset.power)]
    if asset.ramp is not None:
        entries += [
            (2 * hours + t, hours + t, 1.0),
            (2 * hours + t, t, -1.0),
            (2 * hours + t[1:], hours + t[:-1], -1.0),
            (2 * hours + t[1:], t[:-1], 1.0),
        ]
        lower.append(np.full(hours, -asset.ramp))
        upper.append(np.full(hours, asset.ramp))
    columns = (
        np.r_[np.zeros(2 * hours), np.full(hours, asset.lowest)],
        np.r_[np.full(2 * hours, asset.power), np.full(hours, asset.energy)],
    )
    return assembled(entries, columns, (np.concatenate(lower), np.concatenate(upper)))
