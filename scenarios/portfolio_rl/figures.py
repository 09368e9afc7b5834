"""Figures of this architecture's report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scenarios import Figure
from scenarios.drawing import FIRST, INK, QUIET, SECOND, THIRD, picture
from scenarios.portfolio_rl.job import GREEDY_ESTIMATED, PolicyJob

COLOURS = (FIRST, SECOND, THIRD)
DASHED = (0, (4, 3))


def learning(path: Path, jobs: list[PolicyJob], best: PolicyJob) -> Figure:
    """Draw the mean final value during PPO's training, and other policies' values as horizontal lines."""
    with picture(path) as axes:
        longest = 0.0
        for index, job in enumerate(jobs):
            seconds = [row["cpu_seconds"] for row in job.curve]
            values = [row["mean_final_value"] for row in job.curve]
            axes.plot(
                seconds, values, color=COLOURS[index % 3], linewidth=1.0, label=f"seed {job.card['seed']}"
            )
            longest = max(longest, *seconds)
        lines = {
            "bound": best.mean(best.bound_name),
            "fitted values": best.mean(),
            "greedy, estimated": best.mean(GREEDY_ESTIMATED),
        }
        styles = {"bound": "solid", "fitted values": DASHED, "greedy, estimated": (0, (1, 2))}
        for name, value in lines.items():
            axes.axhline(value, color=INK, linewidth=0.9, linestyle=styles[name], label=name)
        axes.set(xlabel="processor seconds", ylabel="mean final value, $", xlim=(0, longest))
        axes.legend(loc="lower right")
    ends = ", ".join(f"${job.curve[-1]['mean_final_value']:,.0f}" for job in jobs)
    return Figure(
        "Learning by PPO",
        path,
        f"Lines of PPO's mean final value over processor seconds. They end at {ends}. Horizontal lines:"
        f" bound ${lines['bound']:,.0f}, fitted values ${lines['fitted values']:,.0f}, greedy on estimated"
        f" means ${lines['greedy, estimated']:,.0f}.",
        "Mean final value of the batches that PPO trained on, exploration included, so it ends below the"
        " policy's own value. The horizontal lines are values on held-out prices.",
    )


def trades(path: Path, job: PolicyJob, episode: int = 0) -> Figure:
    """Draw an episode: prices, the band that holds 90 % of all episodes' prices, purchases and sales."""
    times = np.arange(job.prices.shape[1])
    low, high = np.quantile(job.prices, (0.05, 0.95), axis=0)
    names = [asset["name"] for asset in job.card["rules"]["assets"]]
    with picture(path, height=3.8) as axes:
        for index, name in enumerate(names[:3]):
            colour, prices = COLOURS[index], job.prices[episode, :, index]
            axes.fill_between(times, low[:, index], high[:, index], color=colour, alpha=0.14, linewidth=0)
            axes.plot(times, prices, color=colour, linewidth=1.0, label=f"asset {name}")
            lots = job.actions[episode, :, index]
            for sign, marker in ((1, "^"), (-1, "v")):
                at = np.flatnonzero(np.sign(lots) == sign)
                axes.scatter(
                    at, prices[at], s=12 * np.abs(lots[at]), marker=marker, color=colour, linewidths=0
                )
        axes.set(xlabel="time", ylabel="price of a unit, $", xticks=times[::3].tolist())
        axes.legend(loc="upper left", ncols=3)
    bought, sold = (job.actions[episode] > 0).sum(), (job.actions[episode] < 0).sum()
    return Figure(
        "Trades of one episode",
        path,
        f"Prices of {len(names)} assets over {len(times)} times, with {bought} purchases and {sold} sales.",
        f"A held-out episode, which ended at ${job.values[episode, -1]:,.0f}. Triangles up are purchases,"
        " down are sales; their size is the number of lots. The bands hold nine tenths of the prices.",
    )


def final_values(path: Path, best: PolicyJob, ppo: list[PolicyJob]) -> Figure:
    """Draw the distribution of final values."""
    lowest, highest = np.quantile(best.final, (0.001, 0.999))
    bins = np.linspace(min(lowest, 1000), highest, 60).tolist()
    with picture(path) as axes:
        axes.hist(best.final, bins, color=FIRST, alpha=0.55, label="fitted values", density=True)
        others = np.concatenate([job.final for job in ppo])
        axes.hist(others, bins, color=SECOND, histtype="step", label="PPO", density=True)
        axes.axvline(best.card["rules"]["cash"], color=INK, linewidth=0.9, linestyle=DASHED, label="start")
        axes.set(xlabel="final value, $")
        axes.yaxis.set_visible(False)
        axes.legend()
    worst = best.table["policy"]["cvar_5"]
    return Figure(
        "Final values",
        path,
        f"Distributions of final values. By fitted values the mean is ${best.final.mean():,.0f} and the mean"
        f" of the lowest twentieth ${worst:,.0f}; by PPO the mean is ${others.mean():,.0f}.",
        f"{len(best.final):,} held-out episodes for each policy, all of the same prices.",
    )


def weights(path: Path, job: PolicyJob) -> Figure:
    """Draw each asset's mean share of the portfolio over time, and its cap."""
    rules = job.card["rules"]
    lot = np.array([asset["lot"] for asset in rules["assets"]])
    shares = job.lots * lot * job.prices / job.values[..., None]
    times = np.arange(shares.shape[1])
    caps = {
        constraint["assets"][0]: constraint["share"]
        for constraint in rules["constraints"]
        if constraint["kind"] == "cap" and len(constraint["assets"]) == 1
    }
    with picture(path) as axes:
        for index, asset in enumerate(rules["assets"][:3]):
            colour, name = COLOURS[index], asset["name"]
            axes.plot(times, shares[..., index].mean(0), color=colour, label=f"asset {name}")
            if name in caps:
                axes.axhline(caps[name], color=colour, linewidth=0.9, linestyle=DASHED)
        axes.plot(times, (job.cash / job.values).mean(0), color=QUIET, label="cash")
        axes.set(xlabel="time", ylabel="share of the total", ylim=(0, 1), xticks=times[::3].tolist())
        axes.legend(ncols=2)
    told = ", ".join(f"asset {name} {share:.0%}" for name, share in caps.items())
    return Figure(
        "Shares against the caps",
        path,
        f"Lines of the mean share of each asset and of cash over time. Caps, dashed: {told}.",
        f"Means over {len(shares)} held-out episodes. The caps of this variant forbid purchases while a share"
        " is above them; a price that rises may lift a share further, and no rule forces a sale.",
    )
