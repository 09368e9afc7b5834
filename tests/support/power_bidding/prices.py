"""Synthetic hourly prices and feeds, as CSV and as requests."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2022, 1, 1, 6, tzinfo=UTC)
"""Midnight in Chicago"""
DAYS = 110
CLOCK_FORWARD = 71
"""2022-03-13"""
COLUMNS = ("price", "real_time", "load", "temperature", "price_forecast")


def rows(days: int = DAYS, seed: int = 0) -> list[dict[str, float]]:
    """Return the values of each hour of `days` days. The peak changes daily between morning and evening."""
    generator = random.Random(seed)
    found: list[dict[str, float]] = []
    for hour in range(24 * days):
        peak = 19 if hour // 24 % 2 else 8
        shape = 30 + 40 * math.exp(-((hour % 24 - peak) ** 2) / 8)
        price = shape + generator.gauss(0, 2)
        found.append(
            {
                "price": round(price, 2),
                "real_time": round(price + generator.gauss(0, 8), 2),
                "load": round(1000 + 200 * math.sin(hour / 24 * 2 * math.pi) + generator.gauss(0, 20), 1),
                "temperature": round(15 + generator.gauss(0, 3), 1),
                "price_forecast": round(shape + generator.gauss(0, 4), 2),
            }
        )
    return found


def hour(number: int) -> str:
    """Return the text of the hour with this number, counted from `START`."""
    return f"{START + timedelta(hours=number):%Y-%m-%dT%H:%MZ}"


def begin(day: int) -> int:
    """Return the first hour of a market day, counted from `START`. One of the days has 23 hours."""
    return 24 * day - (day > CLOCK_FORWARD)


def csv(found: list[dict[str, float]]) -> str:
    lines = [
        f"{hour(number)},{','.join(str(row[name]) for name in COLUMNS)}" for number, row in enumerate(found)
    ]
    return "\n".join([f"hour_utc,{','.join(COLUMNS)}", *lines, ""])


def request(found: list[dict[str, float]], days: int, **change: Any) -> dict[str, Any]:
    """Return a request made at 8:00 on the last of `days` days. The prices of that day are published.

    The request is for the curve of 10:00 and for the day-ahead offers of the next day.
    """
    now, published = begin(days - 1) + 8, begin(days)
    ends = {
        "price": published,
        "real_time": now,
        "load": now,
        "temperature": now,
        "price_forecast": published + 24,
    }
    history = {name: [row[name] for row in found[:end]] for name, end in ends.items()}
    return {
        "hour": hour(now + 2),
        "now": hour(now),
        "location": "HUB",
        "mode": "self_schedule",
        "real_time_policy": "curve",
        "asset": {},
        "market": {"floor": -150, "cap": 2000, "least_mw": 0.1, "most_segments": 10},
        "time_zone": "America/Chicago",
        "history": {"start": hour(0)} | history,
        "state_of_charge": 12.0,
        "awards": {},
        "day_ahead": f"{START + timedelta(days=days):%Y-%m-%d}",
    } | change
