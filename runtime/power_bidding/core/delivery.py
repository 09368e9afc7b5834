"""Sends a proposed offer. Each step is a conditional write and idempotent.

The row is marked as tried before the offer is sent. From then on its segments are fixed unless the market
rejects them: a retry sends the same offer, which the market recognizes by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from power_bidding.core.bid_ports import Desk, MarketRefusedError
from power_bidding.core.offers import LATE, Offer, Slot, due, stamp
from power_feeds import files, hours, parquet


def propose(desk: Desk, offer: Offer, stays: Callable[[Offer], bool] = lambda row: False) -> Offer:
    """Write the offer to the table, and return the stored row.

    The stored row stays as it is if it may have been sent, if `stays` returns True for it, or if another
    writer changes it meanwhile.
    """
    before = desk.offers.get(offer.asset, offer.slot)
    if before is None:
        written = desk.offers.swap(None, offer)
    elif before.free and not stays(before):
        offer = before.replaced_by(offer)
        written = desk.offers.swap(before, offer)
    else:
        written = False
    row = offer if written else _read(desk, offer)
    publish(desk, row)
    return row


def publish(desk: Desk, row: Offer) -> None:
    """Write the row's Parquet file. Equal offers give equal bytes."""
    # An hour without an offer has one row of 0 MW
    curve = row.curve or ((0.0, 0.0),)
    n = len(curve)
    table = parquet.write(
        {
            "made": [row.made] * n,
            "hour_utc": [hours.text(row.slot.hour)] * n,
            "market": [row.slot.market] * n,
            "location": [desk.asset(row.asset).location] * n,
            "asset": [row.asset] * n,
            "segment": list(range(n)),
            "mw": [mw for mw, _ in curve],
            "price": [price for _, price in curve],
            "source": [row.source] * n,
        }
    )
    key = f"{files.folder('bids', row.slot.hour)}{row.slot.market}-{row.asset}.parquet"
    desk.put(key, table, "application/vnd.apache.parquet")


def deliver(desk: Desk, row: Offer, approved: bool = False) -> Offer:
    """Send the offer if the switch allows it, and return the updated row.

    :param approved: whether an operator has approved the offer while the switch is `approve`
    Raises `MarketRefusedError` after storing the rejection in the row, and `MarketDownError`.
    """
    while not row.final:
        switch = desk.switch()
        if switch == "stop" and row.status == "stopped":
            break
        if switch == "stop":
            desk.offers.swap(row, replace(row, status="stopped"))
        elif not desk.market.open or (switch == "approve" and not approved):
            break
        elif row.refused == row.digest:
            raise MarketRefusedError(row.reason)
        elif not row.tried and (late := lateness(desk, row.slot)):
            raise MarketRefusedError(late)
        elif row.status == "stopped" or not row.tried:
            now = row.tried or stamp(desk.clock.now())
            desk.offers.swap(row, replace(row, status="proposed", tried=now))
        else:
            return _send(desk, row)
        row = _read(desk, row)
    return row


def _send(desk: Desk, row: Offer) -> Offer:
    """Send an offer that is marked as tried, even if it is late, because the market may already have it."""
    sent = row.digest
    try:
        desk.market.send(row)
    except MarketRefusedError as error:
        while not row.final and row.digest == sent and row.refused != sent:
            desk.offers.swap(row, replace(row, refused=sent, reason=str(error)))
            row = _read(desk, row)
        raise
    while not row.final and row.digest == sent:
        # Even if the switch has changed to `stop` meanwhile, the row must state that the offer was sent
        desk.offers.swap(row, replace(row, status="sent", sent=stamp(desk.clock.now()), reason=""))
        row = _read(desk, row)
    return row


def give_up(desk: Desk, none: Offer, lost: str = "") -> Offer | None:
    """Write an explicit no-offer, and return the stored row.

    :param lost: digest of an offer that the market may have received
    Return None if another attempt is sending an offer.
    """
    while True:
        before = desk.offers.get(none.asset, none.slot)
        if before and before.final:
            return before
        if before and not before.free and before.digest != lost:
            return None
        after = replace(none, tried=before.tried, refused=before.refused) if before else none
        if desk.offers.swap(before, after):
            publish(desk, after)
            return after


def lateness(desk: Desk, slot: Slot) -> str:
    """Return a text with the deadline of the slot's offer if it has passed, else ""."""
    limit = due(slot, desk.settings)
    return f"{LATE}: it was due at {stamp(limit)}" if desk.clock.now() >= limit else ""


def _read(desk: Desk, row: Offer) -> Offer:
    found = desk.offers.get(row.asset, row.slot)
    if found is None:
        raise ValueError(f"the offer {row.asset} {row.slot.key} does not exist any more")
    return found
