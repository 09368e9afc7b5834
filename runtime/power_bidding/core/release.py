"""Sends the offers that were held back because the switch is `approve`."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from power_bidding.core.bid_ports import Desk, MarketDownError, MarketRefusedError
from power_bidding.core.delivery import deliver, give_up
from power_bidding.core.offers import LATE, Offer, slots, stamp
from power_feeds import hours


class Refused(TypedDict):
    asset: str
    offer: str
    reason: str


class Released(TypedDict):
    hour: str
    sent: list[str]
    refused: list[Refused]
    """Late offers, which become no-offers, and offers that the market rejected"""


def release(desk: Desk, run: int) -> Released:
    """Send each proposed offer of the run; all are tried, and rejected ones are returned.

    Raises `ValueError` while the switch is `stop`.
    """
    if desk.switch() == "stop":
        raise ValueError("the switch is stop: set it to approve or go before offers are released")
    done: Released = {"hour": hours.text(run), "sent": [], "refused": []}
    for name in sorted(desk.assets):
        for slot in slots(run, desk.settings):
            row = desk.offers.get(name, slot)
            if row and not row.final and row.run == run:
                _release(desk, row, done)
    return done


def _release(desk: Desk, row: Offer, done: Released) -> None:
    reason = ""
    try:
        after = deliver(desk, row, approved=True)
        if after.status == "sent":
            done["sent"].append(f"{row.asset} {row.slot.key}")
            return
        reason = f"the offer is {after.status}: {after.reason or 'no market is set'}"
    except MarketRefusedError as error:
        reason = str(error)
        if reason.startswith(LATE):
            now = stamp(desk.clock.now())
            none = replace(row, curve=(), status="no_offer", source="none", made=now, reason=reason)
            give_up(desk, none)
            desk.count("NoOfferHours", 1)
    except MarketDownError as error:
        reason = f"{error}; release the offer again"
    done["refused"].append({"asset": row.asset, "offer": row.slot.key, "reason": reason})
