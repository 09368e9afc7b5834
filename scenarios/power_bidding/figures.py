"""Figures of the scenario's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenarios import Figure
from scenarios.drawing import FIRST, QUIET, SECOND, THIRD, picture
from scenarios.power_bidding.visits import Visit


def curve(path: Path, results: dict[str, Any]) -> Figure:
    """Draw the real-time offer with the most segments."""
    offers = [offer for offer in results["offers"] if offer["market"] == "RT"]
    chosen = max(offers, key=lambda offer: (len(offer["segments"]), offer["hour"]))
    prices = [price for _, price in chosen["segments"]]
    power = [mw for mw, _ in chosen["segments"]]
    with picture(path) as axes:
        # begin the axis near the second price: the first one is the market's floor, far to the left
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
        "The asset's power at each price of the hour.",
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
        "Real-time prices, the asset's power, and its state of charge.",
    )


def months(path: Path, evaluation: dict[str, Any]) -> Figure:
    """Draw the monthly capture of the model and of the best naive forecast."""
    rows = evaluation["months"]
    with picture(path) as axes:
        for offset, name, color, label in (
            (-0.2, "candidate", FIRST, "model"),
            (0.2, "best_naive", QUIET, evaluation["best_naive"]),
        ):
            places = [place + offset for place in range(len(rows))]
            axes.bar(places, [row[name] for row in rows], 0.38, color=color, label=label)
        axes.set_xticks(range(len(rows)), [f"{row['month']}\n{row['days']} days" for row in rows])
        axes.set_ylim(0, 1.15)  # the legend is above the bars
        axes.set_ylabel("share of perfect foresight")
        axes.legend(loc="upper center", ncols=2)
    told = ", ".join(f"{row['month']} {row['candidate']:.3f} against {row['best_naive']:.3f}" for row in rows)
    return Figure(
        "Capture by month",
        path,
        f"The model's share of perfect foresight beside that of the best naive forecast: {told}.",
        f"Day-ahead schedules of the {evaluation['days']} days after the first model's training data."
        " The model is not trained again.",
    )


def runs(path: Path, histories: dict[str, list[Visit]]) -> Figure:
    """Draw a timeline of the executions' states, one bar per visit.

    :param histories: visits by state machine name
    """
    rows = [(machine, visit) for machine, visits in histories.items() for visit in visits]
    begin = min(visit.begin for _, visit in rows)
    labels = list(dict.fromkeys((machine, visit.state) for machine, visit in rows))
    colors = dict(zip(histories, (FIRST, SECOND, THIRD), strict=False))
    with picture(path, height=0.9 + 0.21 * len(labels)) as axes:
        for machine, visit in rows:
            axes.barh(
                labels.index((machine, visit.state)),
                max(visit.end - visit.begin, 0.02),
                left=visit.begin - begin,
                color=colors[machine],
            )
        axes.set_yticks(range(len(labels)), [state for _, state in labels])
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        axes.grid(visible=False, axis="y")
    told = "; ".join(
        f"{machine}: {', '.join(state for of, state in labels if of == machine)}" for machine in histories
    )
    return Figure(
        f"Executed states of {' and '.join(histories)}",
        path,
        f"States in the order they were entered. {told}.",
        "One hour of the week, from the execution histories.",
    )
