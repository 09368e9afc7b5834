"""ERCOT's public API: JSON in pages, with a subscription key and a bearer token.

Specification: https://developer.ercot.com/applications/pubapi (registration, authentication, and the limit of
30 requests a minute) and https://github.com/ercot/api-specs. Reports: NP4-190-CD day-ahead prices, NP6-905-CD
real-time prices every 15 minutes, NP3-565-CD seven-day load forecast by model and weather zone. The token
comes from OAuth's password flow (ROPC), is valid for an hour and is sent together with the key. Terms:
https://www.ercot.com/help/terms.

Days are in Central Prevailing Time, and an hour is numbered by its end. In autumn, the repeated hour has the
DSTFlag set, is written `02*`, or is a 25th hour; in spring, the skipped hour may be null, or the day has 23
hours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from power_feeds import hours
from power_feeds.errors import FeedMalformedError
from power_feeds.http import Client
from power_feeds.rows import series_name
from power_feeds.sources.fetched import Fetched, Series, means, number

DAY_AHEAD = "/np4-190-cd/dam_stlmnt_pnt_prices"
REAL_TIME = "/np6-905-cd/spp_node_zone_hub"
LOAD = "/np3-565-cd/lf_by_model_weather_zone"
COLUMNS = {
    DAY_AHEAD: {"deliveryDate", "hourEnding", "settlementPoint", "settlementPointPrice", "DSTFlag"},
    REAL_TIME: {
        *("deliveryDate", "deliveryHour", "deliveryInterval"),
        *("settlementPoint", "settlementPointPrice", "DSTFlag"),
    },
    LOAD: {"postedDatetime", "deliveryDate", "hourEnding", "systemTotal", "inUseFlag", "DSTFlag"},
}
"""Columns that are read, by report."""
CLIENT_ID = "fec253ea-0d06-4272-a5e6-b478baeecd70"
"""The API's client id, published in ERCOT's guide and the same for all users."""
INTERVALS = 4
TRUE = (True, "true", "Y")
"""Values that mean true in the reports' flags."""
PAGE_SIZE = 1_000
MOST_PAGES = 50
POSTINGS_HOURS = 2
"""Number of hours before `now` that are searched for the latest load forecast, which is posted hourly."""


@dataclass
class Ercot:
    """`url` is the base URL of the reports, such as https://api.ercot.com/api/public-reports."""

    client: Client
    url: str
    token_url: str
    subscription_key: str
    username: str
    password: str
    zone: str
    token: str | None = None

    def prices(self, locations: Sequence[str], start: int, end: int, now: int) -> Fetched:
        """Return `price` and, for hours before `now`, `real_time` of all locations for [`start`, `end`).

        Raises `FeedDownError`, `FeedRefusedError` or `FeedMalformedError`.
        """
        found, inside = Fetched(), range(start, end)
        for location in locations:
            asked = self._days(start, end) | {"settlementPoint": location}
            rows = list(self._rows(found, DAY_AHEAD, asked))
            for row, hour in self._placed(rows, "hourEnding"):
                if hour in inside and row["settlementPoint"] == location:
                    value = number(row["settlementPointPrice"], "settlementPointPrice")
                    found.add(series_name("price", location), hour, value)
            intervals: dict[tuple[str, int], dict[object, float | None]] = {}
            rows = list(self._rows(found, REAL_TIME, self._days(start, now) | {"settlementPoint": location}))
            for row, hour in self._placed(rows, "deliveryHour"):
                if hour in range(start, now) and row["settlementPoint"] == location:
                    value = number(row["settlementPointPrice"], "settlementPointPrice")
                    name = series_name("real_time", location)
                    intervals.setdefault((name, hour), {})[row["deliveryInterval"]] = value
            means(intervals, INTERVALS, found)
        return found

    def load(self, start: int, end: int, now: int) -> Fetched:
        """Return the load forecast last posted up to `now`, of the model in use. Errors as in `prices`."""
        posted = {
            "postedDatetimeFrom": self._local(now - POSTINGS_HOURS),
            "postedDatetimeTo": self._local(now),
        }
        found = Fetched()
        by_posting: dict[str, list[dict[str, Any]]] = {}
        for row in self._rows(found, LOAD, self._days(start, end) | posted):
            if row["inUseFlag"] in TRUE:
                by_posting.setdefault(str(row["postedDatetime"]), []).append(row)
        newest: Series = {}
        for _, rows in sorted(by_posting.items()):
            posting = Fetched()
            for row, hour in self._placed(rows, "hourEnding"):
                if start <= hour < end:
                    posting.add("load", hour, number(row["systemTotal"], "systemTotal"))
            newest |= posting.series.get("load", {})
        found.series["load"] = newest
        found.published = max(by_posting, default=None)
        return found

    def _local(self, hour: int) -> str:
        return hours.local(hour, self.zone).strftime("%Y-%m-%dT%H:%M:%S")

    def _days(self, start: int, end: int) -> dict[str, str]:
        last = max(start, end - 1)
        return {
            "deliveryDateFrom": hours.market_day(start, self.zone),
            "deliveryDateTo": hours.market_day(last, self.zone),
        }

    def _rows(self, found: Fetched, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        for page in range(1, MOST_PAGES + 1):
            asked = {**query, "page": str(page), "size": str(PAGE_SIZE)}
            answer = self.client.get(self.url.rstrip("/") + path, asked, self._headers())
            found.keep("json", answer)
            try:
                document = json.loads(answer.body)
                names = [field["name"] for field in document["fields"]]
                pages = int(document["_meta"]["totalPages"])
                rows = [dict(zip(names, row, strict=True)) for row in document["data"]]
            except (ValueError, KeyError, TypeError) as error:
                raise FeedMalformedError(
                    f"{path} is not the JSON of a report: {type(error).__name__}"
                ) from error
            if lacking := sorted(COLUMNS[path] - set(names)):
                raise FeedMalformedError(f"{path} has no column {lacking[0]}")
            yield from rows
            if page >= pages:
                return
        raise FeedMalformedError(f"{path} has more than {MOST_PAGES} pages")

    def _headers(self) -> dict[str, str]:
        if self.token is None:
            form = {
                "grant_type": "password",
                "username": self.username,
                "password": self.password,
                "response_type": "id_token",
                "scope": f"openid {CLIENT_ID} offline_access",
                "client_id": CLIENT_ID,
            }
            try:
                document = json.loads(self.client.post_form(self.token_url, form).body)
                token = document.get("id_token") or document["access_token"]
            except (ValueError, KeyError, AttributeError) as error:
                raise FeedMalformedError("the response of the token endpoint has no token") from error
            self.token = str(token)
            self.client.secrets = (*self.client.secrets, self.token)
        return {"Authorization": f"Bearer {self.token}", "Ocp-Apim-Subscription-Key": self.subscription_key}

    def _placed(self, rows: Sequence[dict[str, Any]], column: str) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each row with its hour, without rows for a skipped hour in spring."""
        days: dict[str, list[tuple[dict[str, Any], int, bool]]] = {}
        try:
            for row in rows:
                text = str(row[column])
                ending = int(text.partition(":")[0].rstrip("*"))
                repeated = "*" in text or row["DSTFlag"] in TRUE
                days.setdefault(str(row["deliveryDate"]), []).append((row, ending, repeated))
            for day, placed in sorted(days.items()):
                yield from self._of_day(day, placed)
        except (KeyError, ValueError) as error:
            raise FeedMalformedError(f"a row has no readable deliveryDate, {column} and DSTFlag") from error

    def _of_day(
        self, day: str, placed: Sequence[tuple[dict[str, Any], int, bool]]
    ) -> Iterator[tuple[dict[str, Any], int]]:
        there = hours.hours_of(day, self.zone)
        endings = {ending for _, ending, _ in placed}
        counted = max(endings) == 25 or (len(there) == 23 and endings == set(range(1, 24)))
        for row, ending, repeated in placed:
            if counted:
                if not 1 <= ending <= len(there):
                    raise ValueError(ending)
                yield row, there[ending - 1]
            elif (hour := hours.hour_ending(day, ending, self.zone, repeated=repeated)) is not None:
                yield row, hour
