"""Makes the bids of an hourly run for one asset: invoke the model, check its answer, propose and send
offers."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from power_bidding.core import answers, awards, readings
from power_bidding.core.answers import Answer
from power_bidding.core.bid_ports import (
    Desk,
    Forecast,
    MarketDownError,
    MarketRefusedError,
    ModelAnswerError,
)
from power_bidding.core.delivery import deliver, lateness, propose, publish
from power_bidding.core.offers import Offer, Slot, open_day, sends, slots, stamp
from power_feeds import hours


class Outcome(TypedDict):
    """The result for one offer."""

    offer: str
    status: str
    source: str
    reason: str


class Report(TypedDict):
    asset: str
    hour: str
    offers: list[Outcome]


def make_bids(desk: Desk, run: int, version: int, name: str) -> Report:
    """Store the asset's offers of a run and send them. A repeated call continues where the last one ended.

    After the day-ahead market has closed, only the real-time offer is made. If the market rejects an offer,
    the other offers are still sent before the error is raised; if the market is down, they are only stored.
    Raises `EndpointThrottledError`, `ModelAnswerError`, `MarketRefusedError` and `MarketDownError`.
    """
    late = {slot: why for slot in slots(run, desk.settings)[1:] if (why := lateness(desk, slot))}
    wanted = [slot for slot in slots(run, desk.settings) if slot not in late]
    found = {slot: row for slot in wanted if (row := desk.offers.get(name, slot))}
    known = {slot: row for slot, row in found.items() if _stays(row, run, version)}
    answer: Answer | None = None
    if len(known) < len(wanted):
        answer = ask(desk, run, version, name, wanted)
        _keep_forecast(desk, run, name, answer)

    def proposed(slot: Slot) -> Offer:
        if answer is None or slot in known:
            publish(desk, known[slot])
            return known[slot]
        offer = _offer(desk, name, slot, run, version, answer)
        return propose(desk, offer, lambda row: _stays(row, run, version))

    rows: list[Offer] = []
    trouble: list[MarketDownError | MarketRefusedError] = [
        MarketRefusedError(why)
        for slot, why in late.items()
        if sends(run, slot, desk.settings) and not _is_final(desk.offers.get(name, slot))
    ]
    # The real-time offer is due first
    for group in (wanted[:1], wanted[1:]):
        rows += _sent(desk, run, [proposed(slot) for slot in group], trouble)
    for kind in (MarketDownError, MarketRefusedError):
        for error in trouble:
            if isinstance(error, kind):
                raise error
    return report(name, run, rows)


def _is_final(row: Offer | None) -> bool:
    return row is not None and row.final


def _stays(row: Offer, run: int, version: int) -> bool:
    """Return whether to keep the row: it may have been sent, was rejected, or is from the same or a newer
    dataset."""
    return not row.free or row.refused == row.digest or (row.run, row.version) >= (run, version)


def ask(desk: Desk, run: int, version: int, name: str, wanted: list[Slot]) -> Answer:
    """Return the checked answer of the model in service, with the version of that model."""
    serving = desk.models.serving()
    if serving is None:
        raise ModelAnswerError("no model is in service")
    asset = desk.asset(name)
    values = readings.gathered(desk.history, desk.datasets, asset.location, run, version)
    state = awards.telemetry(desk, name, run, values)
    day = open_day(run, desk.settings) if len(wanted) > 1 else None
    asked = readings.request(asset, desk.settings, run, values, state.level, state.awards, day)
    body = desk.models.ask(serving.endpoint, asked)
    answer = answers.checked(body, wanted, asset, desk.settings, state.level)
    return replace(answer, model=serving.version)


def _offer(desk: Desk, name: str, slot: Slot, run: int, version: int, answer: Answer) -> Offer:
    made = stamp(desk.clock.now())
    return Offer(name, slot, run, answer.curves[slot], "proposed", "model", answer.model, version, made)


def _keep_forecast(desk: Desk, run: int, name: str, answer: Answer) -> None:
    """Store the forecast of the open market day, if it is complete and made before the deadline."""
    zone = desk.settings.time_zone
    day, now = open_day(run, desk.settings), desk.clock.now()
    if day is None or now >= hours.day_ahead_deadline(day, zone):
        return
    whole = hours.hours_of(day, zone)
    if all(hour in answer.forecast for hour in whole):
        prices = [answer.forecast[hour] for hour in whole]
        desk.offers.put_forecast(Forecast(name, day, whole[0], prices, answer.model, run, stamp(now)))


def _sent(
    desk: Desk, run: int, rows: list[Offer], trouble: list[MarketDownError | MarketRefusedError]
) -> list[Offer]:
    """Send the offers that no later run makes again, and add errors to `trouble`.

    Sends no more offers once the market is down.
    """
    after: list[Offer] = []
    for row in rows:
        down = any(isinstance(error, MarketDownError) for error in trouble)
        if down or not sends(run, row.slot, desk.settings):
            after.append(row)
            continue
        try:
            after.append(deliver(desk, row))
        except (MarketRefusedError, MarketDownError) as error:
            trouble.append(error)
    return after


def report(name: str, run: int, rows: list[Offer]) -> Report:
    found: list[Outcome] = [
        {"offer": row.slot.key, "status": row.status, "source": row.source, "reason": row.reason}
        for row in rows
    ]
    return {"asset": name, "hour": hours.text(run), "offers": found}
