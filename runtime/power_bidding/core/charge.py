"""The state of charge: its change by awards from hour to hour, and the MW that it allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from power_bidding.core.assets import Battery
from power_bidding.core.curves import TOLERANCE, Curve


def limits(level: float, battery: Battery) -> tuple[float, float]:
    """Return the minimum and maximum MW in an hour that begins with `level` MWh."""
    kept = battery.retention * level
    charge = (battery.energy - kept) / battery.charge_efficiency
    discharge = (kept - battery.lowest) * battery.discharge_efficiency
    return -max(0.0, min(battery.power, charge)), max(0.0, min(battery.power, discharge))


def after(level: float, mw: float, battery: Battery) -> float:
    """Return the state of charge in MWh after an hour with an award of `mw`, delivered as far as possible."""
    least, most = limits(level, battery)
    delivered = min(max(mw, least), most)
    change = (
        delivered / battery.discharge_efficiency if delivered > 0 else delivered * battery.charge_efficiency
    )
    # The result exceeds `energy` only by rounding errors, and is below `lowest` only because of losses
    return min(battery.retention * level - change, battery.energy)


def carried(level: float, hours: Iterable[int], award: Callable[[int], float], battery: Battery) -> float:
    """Return the state of charge in MWh after `hours`.

    :param award: returns an hour's award in MW, which is 0 without a bid
    """
    for hour in hours:
        level = after(level, award(hour), battery)
    return level


def allows(curve: Curve, level: float, battery: Battery) -> bool:
    """Return whether every MW of the curve can be delivered in an hour that begins with `level` MWh."""
    least, most = limits(level, battery)
    return all(least - TOLERANCE <= mw <= most + TOLERANCE for mw, _ in curve)


def possible(mw: Iterable[float], battery: Battery) -> bool:
    """Return whether the battery can deliver these hourly MW from some initial state of charge."""
    low, high = battery.lowest, battery.energy
    for each in mw:
        change = each / battery.discharge_efficiency if each > 0 else each * battery.charge_efficiency
        low = max(battery.retention * low - change, battery.lowest)
        high = min(battery.retention * high - change, battery.energy)
        if abs(each) > battery.power + TOLERANCE or low > high + TOLERANCE:
            return False
    return True
