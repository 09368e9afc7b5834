"""The market's HTTP API, as `bid_ports.OfferMarket`. Errors contain neither the key nor the URL's query."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from power_bidding.core.bid_ports import MarketDownError, MarketRefusedError, Telemetry
from power_bidding.core.curves import CurveError, finite, plain
from power_bidding.core.offers import Offer
from power_feeds import hours

TIMEOUT = urllib3.Timeout(connect=3, read=10)
TRIES = 3
LARGEST_ANSWER = 256 * 1024
LONGEST_REASON = 300
UNAUTHORIZED = (401, 403)


@dataclass(frozen=True)
class Access:
    """URL and key of the market's API. An empty URL means that offers are not sent."""

    url: str
    key: str


class HttpMarket:
    def __init__(self, access: Callable[[bool], Access], sleep: Callable[[float], None] = time.sleep):
        """
        :param access: returns URL and key of the market's API; with the argument True it reads them again
        """
        self.access, self.sleep = access, sleep
        # Offers have ids, so they may be sent again. `_ask` retries, and limits the attempts
        self.pool = urllib3.PoolManager(timeout=TIMEOUT, retries=False)

    @property
    def open(self) -> bool:
        return bool(self.access(False).url)

    def send(self, offer: Offer) -> None:
        body = {
            "asset": offer.asset,
            "market": offer.slot.market,
            "hour": hours.text(offer.slot.hour),
            "segments": plain(offer.curve),
            "id": offer.digest,
        }
        status, answer = self._ask("POST", "offers", body)
        if status in (200, 409) and answer.get("accepted") is True:
            return  # with 409: the market already has this offer
        if status in (400, 409, 422):
            raise MarketRefusedError(_reason(answer, status))
        raise MarketDownError(
            f"the market's response has status {status} and does not say that the offer is accepted"
        )

    def telemetry(self, asset: str, hour: int) -> Telemetry:
        query = urlencode({"asset": asset, "hour": hours.text(hour)})
        status, answer = self._ask("GET", f"telemetry?{query}", None)
        if status != 200:
            raise MarketDownError(f"the market's telemetry API returned status {status}")
        try:
            level = finite(answer["state_of_charge"], "state_of_charge")
            given: Mapping[str, Any] = answer.get("awards") or {}
            awards = {hours.parse(text): finite(mw, f"awards of {text}") for text, mw in given.items()}
        except (KeyError, TypeError, AttributeError, CurveError, ValueError) as error:
            raise MarketDownError(
                f"the market's telemetry cannot be read: {error!r}"[:LONGEST_REASON]
            ) from None
        return Telemetry(level, awards)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of a response. Server errors and throttling are retried.

        If the market rejects the key or does not respond, address and key are read again. Raises
        `MarketDownError` after `TRIES` attempts, and if the key is rejected twice.
        """
        fault, renew = "", False
        for attempt in range(TRIES):
            if attempt and not renew:
                self.sleep(random.uniform(0.5, 1) * 2**attempt)  # noqa: S311 - not a secret
            access = self.access(renew)
            renewed, renew = renew, False
            try:
                status, data = self._once(method, f"{access.url.rstrip('/')}/{path}", access.key, body)
            except HTTPError as error:
                fault = type(error).__name__
                renew = attempt == 0  # the address may have changed
                continue
            if status in UNAUTHORIZED:
                fault = f"the market rejects the key with status {status}"
                if renewed:
                    break
                renew = True
            elif status == 429 or status >= 500:
                fault = f"the market returned status {status}"
            elif len(data) > LARGEST_ANSWER:
                fault = f"the market's answer is longer than {LARGEST_ANSWER} bytes"
            elif (answer := _object(data)) is not None or status in (400, 409, 422):
                return status, answer or {}
            else:
                fault = "the market's response is not a JSON object"
        raise MarketDownError(f"{method} {path.partition('?')[0]}: {fault}")

    def _once(self, method: str, url: str, key: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        given = json.dumps(body, allow_nan=False).encode() if body is not None else None
        headers = {"x-api-key": key, "content-type": "application/json", "accept": "application/json"}
        answer = self.pool.request(
            method, url, body=given, headers=headers, preload_content=False, redirect=False
        )
        try:
            return answer.status, answer.read(LARGEST_ANSWER + 1, decode_content=True)
        finally:
            answer.close()


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _reason(answer: Mapping[str, Any], status: int) -> str:
    text = str(answer.get("error", "")) or f"the market returned status {status}"
    return "".join(character if character.isprintable() else " " for character in text)[:LONGEST_REASON]
