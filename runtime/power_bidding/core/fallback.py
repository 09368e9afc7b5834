"""Fallback for a failed run: the latest curve of the same hour, or an explicit no-offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from power_bidding.core import awards, curves, readings
from power_bidding.core.answers import check_charge
from power_bidding.core.bid_ports import Desk, MarketDownError, MarketRefusedError
from power_bidding.core.bidding import Report, report
from power_bidding.core.curves import Curve, CurveError
from power_bidding.core.delivery import deliver, give_up, lateness, propose
from power_bidding.core.offers import Offer, Slot, digest, sends, slots, stamp
from power_feeds import hours

LONGEST_REASON = 500


def fall_back(desk: Desk, run: int, name: str, error: str) -> Report:
    """Send the latest valid curve, or write a no-offer, for every offer that no later run makes again.

    If the market does not answer, raises `MarketDownError`, so that the call is retried. At the first
    unanswered offer that is not late yet, further offers are left to the retry.
    """
    wanted = [slot for slot in slots(run, desk.settings) if sends(run, slot, desk.settings)]
    level = _level(desk, run, name)
    settled: list[Offer] = []
    failures: list[MarketDownError] = []
    for slot in wanted:
        try:
            settled.append(_settle(desk, run, name, slot, level, error[:LONGEST_REASON]))
        except MarketDownError as failure:
            failures.append(failure)
            if not lateness(desk, slot):
                break  # each further offer would wait as long for the market
    desk.count("FallbackHours", sum(row.source == "fallback" for row in settled))
    desk.count("NoOfferHours", sum(row.status == "no_offer" for row in settled))
    for failure in failures:
        raise failure
    return report(name, run, settled)


def _level(desk: Desk, run: int, name: str) -> float:
    """Return the state of charge in MWh at the beginning of the run's real-time hour."""
    # Do not read the dataset, which may be the cause of the failure
    values = readings.stored(desk.history, desk.asset(name).location, run)
    return awards.telemetry_or_own(desk, name, run, values).level


def _settle(desk: Desk, run: int, name: str, slot: Slot, level: float, error: str) -> Offer:
    """Send an offer unless the switch holds it back, or write a no-offer; return the slot's row."""
    refused: set[str] = set()
    none = Offer(name, slot, run, (), "no_offer", "none", "", 0, stamp(desk.clock.now()), reason=error)
    while True:
        row = desk.offers.get(name, slot)
        if row and row.refused:
            refused.add(row.refused)
        if row is None or row.free:
            row = _next(desk, run, name, slot, level, error, refused)
        if row is None:
            done = give_up(desk, none)
            if done:
                return done
            continue
        try:
            return deliver(desk, row)
        except MarketRefusedError as refusal:
            refused.add(row.digest)
            none = replace(none, reason=f"{error}; {refusal}"[:LONGEST_REASON])
        except MarketDownError as failure:
            if not lateness(desk, slot):
                raise
            reason = f"{error}; {failure}; the market may have the offer {row.digest}"[:LONGEST_REASON]
            if done := give_up(desk, replace(none, reason=reason), row.digest):
                return done


def _next(
    desk: Desk, run: int, name: str, slot: Slot, level: float, error: str, refused: set[str]
) -> Offer | None:
    """Return the row with the latest valid curve, or None. The slot's own curve is tried first."""
    for found in _latest(desk, name, slot):
        own = digest(name, slot, found.curve)
        if own in refused or not _may_leave(desk, name, slot, found.curve, level):
            continue
        if found.slot == slot and found.run == run:
            return found
        made = stamp(desk.clock.now())
        return propose(
            desk,
            replace(
                found,
                slot=slot,
                run=run,
                status="proposed",
                source="fallback",
                made=made,
                sent="",
                tried="",
                refused="",
                reason=error,
            ),
        )
    return None


def _latest(desk: Desk, name: str, slot: Slot) -> Iterator[Offer]:
    """Yield the rows that have a curve for the slot's hour, the latest first."""
    markets = ("RT", "DA") if slot.market == "RT" else ("DA",)
    for market in markets:
        row = desk.offers.get(name, Slot(slot.hour, market))
        if row and row.curve:
            yield row


def _may_leave(desk: Desk, name: str, slot: Slot, curve: Curve, level: float) -> bool:
    asset, settings = desk.asset(name), desk.settings
    rules = settings.rules_of(hours.market_day(slot.hour, settings.time_zone))
    try:
        curves.checked(curve, asset.battery, rules)
        check_charge({slot: curve} if slot.market == "RT" else _day(desk, name, slot), asset, level)
    except CurveError:
        return False
    return True


def _day(desk: Desk, name: str, slot: Slot) -> dict[Slot, Curve]:
    """Return the day-ahead curves of the slot's market day: one state of charge must allow all of them."""
    zone = desk.settings.time_zone
    day = hours.hours_of(hours.market_day(slot.hour, zone), zone)
    rows = desk.offers.between(name, day[0], day[-1])
    return {row.slot: row.curve for row in rows if row.slot.market == "DA" and row.curve}
