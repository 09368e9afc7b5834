"""The pictures of the scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenarios import Figure
from scenarios.drawing import FIRST, QUIET, SECOND, THIRD, picture


def curve(path: Path, results: dict[str, Any]) -> Figure:
    """Draw the real-time offer with most segments."""
    offers = [offer for offer in results["offers"] if offer["market"] == "RT"]
    chosen = max(offers, key=lambda offer: (len(offer["segments"]), offer["hour"]))
    prices = [price for _, price in chosen["segments"]]
    power = [mw for mw, _ in chosen["segments"]]
    with picture(path) as axes:
        # The first price is the market's floor, far to the left
        left = prices[min(1, len(prices) - 1)] - 10
        axes.step([left, *prices[1:], prices[-1] + 10], [*power, power[-1]], where="post", color=FIRST)
        axes.axhline(0, color=QUIET, linewidth=0.6)
        axes.set_xlabel("price, $/MWh")
        axes.set_ylabel("MW, negative is charging")
    told = ", ".join(f"{mw:.1f} MW from ${price:.2f}" for mw, price in chosen["segments"])
    return Figure(
        f"The offer of {chosen['hour']}",
        path,
        f"A step curve that rises with the price: {told}.",
        "What the asset does at each price of the hour.",
    )


def week(path: Path, results: dict[str, Any]) -> Figure:
    """Draw prices, power and state of charge."""
    rows = results["settled"]
    hours = range(len(rows))
    with picture(path) as axes:
        axes.plot(hours, [row["price"] for row in rows], color=QUIET, label="price, $/MWh", linewidth=1)
        axes.set_xlabel("hour of the week")
        axes.set_ylabel("$/MWh")
        beside = axes.twinx()
        beside.plot(hours, [row["state_of_charge"] for row in rows], color=THIRD, label="charge, MWh")
        beside.step(hours, [row["mw"] for row in rows], color=SECOND, label="MW", linewidth=1)
        beside.set_ylabel("MW, MWh")
        beside.grid(False)
        lines = [*axes.get_lines(), *beside.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper center", ncols=3)
    return Figure(
        "The replayed week",
        path,
        "Prices, power and state of charge by hour: charging at low prices, discharging at high ones.",
        "Real-time prices, what the asset did, and what was left in it.",
    )
