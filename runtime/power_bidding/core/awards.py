"""State of charge and awards, from the market's telemetry, or from the stored offers if there is no
market."""

from __future__ import annotations

from collections.abc import Mapping

from power_bidding.core import charge
from power_bidding.core.bid_ports import Desk, MarketDownError, Telemetry
from power_bidding.core.curves import cleared
from power_bidding.core.offers import Offer, Slot
from power_bidding.core.readings import Values

AHEAD_HOURS = 48
"""Maximum number of hours ahead of the run for which the day-ahead market has made awards."""


def telemetry(desk: Desk, name: str, run: int, values: Values) -> Telemetry:
    """Return the state of charge at the beginning of the run's real-time hour, and the known awards.

    Raises `MarketDownError`.
    """
    target = run + desk.settings.lead_hours
    if desk.market.open:
        found = desk.market.telemetry(name, target)
        desk.offers.put_level(name, target, found.level)  # used if the market is down later
        return found
    return own(desk, name, run, values)


def telemetry_or_own(desk: Desk, name: str, run: int, values: Values) -> Telemetry:
    """Return the telemetry; if the market does not answer, compute it from the stored offers."""
    try:
        return telemetry(desk, name, run, values)
    except MarketDownError:
        return own(desk, name, run, values)


def own(desk: Desk, name: str, run: int, values: Values) -> Telemetry:
    """Return state of charge and awards, computed from the stored offers, each cleared at its hour's price.

    Starts at the newest known state of charge, or with an empty battery. The state of charge at the end of
    the run's hour is stored for the next run. Hours without a bid have 0 MW. Hours after the run's hour are
    cleared at the prices that are already known for them.
    """
    battery = desk.asset(name).battery
    target = run + desk.settings.lead_hours
    begin, level = desk.offers.level(name, run) or (run, battery.lowest)
    offers = {
        each.slot: each for each in desk.offers.between(name, begin, run + AHEAD_HOURS) if _counts(desk, each)
    }
    awards = {
        hour: mw
        for hour in range(begin, run + AHEAD_HOURS)
        if (mw := _award(offers, hour, values)) is not None
    }
    level = charge.carried(level, range(begin, run + 1), lambda hour: awards.get(hour, 0.0), battery)
    desk.offers.put_level(name, run + 1, level)
    level = charge.carried(level, range(run + 1, target), lambda hour: awards.get(hour, 0.0), battery)
    return Telemetry(level, {hour: mw for hour, mw in awards.items() if hour > run})


def _counts(desk: Desk, offer: Offer) -> bool:
    """Return whether the offer changes the state of charge: it was sent, or would be if there were a
    market."""
    return bool(offer.curve) and (
        offer.status == "sent" or (offer.status == "proposed" and not desk.market.open)
    )


def _award(offers: Mapping[Slot, Offer], hour: int, values: Values) -> float | None:
    """Return the cleared MW of the hour's real-time offer, else of its day-ahead offer.

    None without an offer, or without a price for a curve of several segments.
    """
    price = values["price"].get(hour)
    for slot, at in ((Slot(hour, "RT"), values["real_time"].get(hour, price)), (Slot(hour, "DA"), price)):
        offer = offers.get(slot)
        if offer and len(offer.curve) == 1:  # a self-schedule: the same MW at any price
            return offer.curve[0][0]
        if offer and at is not None:
            return cleared(offer.curve, at)
    return None
