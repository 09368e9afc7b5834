"""The job: learn a policy, compare it with the baselines on held-out prices, export it with its model card.

There are two optional channels: `rules` has a file `rules.json` (`rules.py`), and `prices` a file
`prices.csv` (`market.read_prices`). Without `prices`, the variant's price model is used.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import sagemaker
from toolkit.archive import ArchiveError, unpack
from toolkit.failure import FatalError
from toolkit.stopping import Interruption

from . import baselines, measures, values, variants
from .exported import CARD, POLICY, Exported
from .market import LOOK_BACK, Curves, Episodes, History, Market, Scales, read_prices
from .orders import MOST_JOINT_ORDERS
from .rules import Rules, read
from .settings import Settings
from .walk_forward import compared, walk_forward

log = logging.getLogger(__name__)

HELD_OUT_SEED = 20_260_101
EVALUATED = 10_000
"""Maximum number of held-out episodes on which the exported candidate and champion are compared."""
NO_ADVICE = "This policy demonstrates a method. It is not investment advice."


@dataclass(frozen=True)
class Task:
    """The problem to solve: rules, prices to train on, and held-out prices."""

    name: str
    rules: Rules
    market: Market
    held_out: Episodes
    faithful: bool = False
    curves: Curves | None = None
    """The price model; None for a user's price history."""
    later: History | None = None
    """The held-out end of a user's price history, with the `LOOK_BACK` prices before it; None if there is no
    history."""

    def seen_by(self, card: dict[str, Any]) -> Episodes:
        """Return the held-out episodes, with signals scaled by the scales in a policy's model card."""
        if self.later is None:
            return self.held_out
        return replace(self.later, scales=Scales(**card["scales"])).every()

    @property
    def overlap(self) -> int:
        """Number of consecutive held-out episodes that have prices in common."""
        return self.later.steps if self.later else 1


def held_out_generator() -> np.random.Generator:
    """Return the random number generator of the held-out episodes.

    Its seed has two words of 32 bits, so it differs from all training seeds, which have one word. (For numpy,
    7 and [7] are the same seed.)
    """
    return np.random.default_rng(np.random.SeedSequence([HELD_OUT_SEED, 1]))


def file_of(channels: Path, name: str, file: str) -> Path | None:
    """Return the file of a channel; None if the job has no such channel.

    Raises `FatalError` if the channel does not have this file, or has other files.
    """
    folder = channels / name
    if not folder.exists():
        return None
    found = sorted(path.name for path in folder.iterdir())
    if found != [file] or not (folder / file).is_file():
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise FatalError(f"channel {name} must hold one file, {file}, got {shown or 'nothing'}")
    return folder / file


def task_of(settings: Settings, channels: Path = sagemaker.CHANNELS) -> Task:
    """Read the channels. Raises `FatalError` if their content is invalid."""
    chosen = variants.variant(settings.variant)
    own_rules = file_of(channels, "rules", "rules.json")
    own_prices = file_of(channels, "prices", "prices.csv")
    rules = read(own_rules) if own_rules else chosen.rules
    if own_prices:
        return own_task(rules, own_prices, settings)
    if len(rules.assets) != chosen.market.assets:
        raise FatalError(
            f"rules.json has {len(rules.assets)} assets, but variant {chosen.name} has prices of"
            f" {chosen.market.assets}: add a channel `prices` with the prices of your assets"
        )
    held_out = chosen.market.draw(held_out_generator(), settings.held_out)
    return Task(chosen.name, rules, chosen.market, held_out, chosen.faithful, chosen.market)


def own_task(rules: Rules, path: Path, settings: Settings) -> Task:
    """Return the task for a user's price history, of which the last part is held out."""
    steps = 20
    prices = read_prices(path, rules.names, least=4 * (LOOK_BACK + steps))
    past = prices[: round(len(prices) * (1 - settings.test_fraction))]
    scales = History.scales_of(past)
    if len(prices) - len(past) < 3 * steps - 1:
        raise FatalError(
            f"{path.name}: the held-out part must have at least {3 * steps - 1} of the {len(prices)} rows,"
            f" got {len(prices) - len(past)}, too few to measure a policy; give more rows, or a larger"
            " test_fraction"
        )
    needed = values.least_windows(steps) + LOOK_BACK + steps - 1
    if settings.method == "fitted" and settings.mode == "train" and len(past) < needed:
        raise FatalError(
            f"{path.name}: method fitted needs at least {needed} rows before the held-out part, got"
            f" {len(past)} of {len(prices)}; give more rows, or a smaller test_fraction"
        )
    # the signals of the first held-out prices are computed from the last training prices, but only held-out
    # prices are traded
    later = History(prices[len(past) - LOOK_BACK :], scales, steps)
    return Task("own prices", rules, History(past, scales, steps), later.every(), later=later)


def run(settings: Settings) -> None:
    """Train and write the model and the results, or evaluate. Metrics go to the log as `name=value`."""
    settings.check()
    if settings.mode == "evaluate":
        evaluate(settings)
        return
    hosts = sagemaker.cluster()
    if hosts.size > 1 and settings.method != "rllib":
        raise FatalError(f"the number of instances must be 1 with method {settings.method}, got {hosts.size}")
    if not hosts.first:
        from . import cluster

        cluster.join(hosts, settings.runners or os.cpu_count() or 1)
        return
    task = task_of(settings)
    check_orders(task, settings)
    started = time.process_time()
    learnt, told = learn(task, settings)
    seconds = time.process_time() - started
    log.info("learnt with %s in %.1f CPU seconds", settings.method, seconds)
    left_out = {}
    if not enumerable(task.rules):
        left_out = dict.fromkeys(
            ENUMERATING, f"{too_many(task.rules)}; this baseline can try at most {MOST_JOINT_ORDERS}"
        )
        log.info("baselines left out: %s; reason: %s", ", ".join(left_out), left_out["random"])
    table, runs, bound = compare(task, learnt, told["greedy_estimated"], settings)
    log.info("validation:value=%.4f", table["policy"]["mean"])
    sagemaker.MODEL.mkdir(parents=True, exist_ok=True)
    if not task.faithful:
        from .export import export  # imported here, because evaluations and rejected jobs do not need it

        export(learnt, task.market.signals, sagemaker.MODEL / POLICY)
    sagemaker.write_json(sagemaker.MODEL / CARD, card(task, settings, table, told, seconds))
    results = {"table": table, "left_out": left_out, "curve": told["curve"], "cpu_seconds": seconds}
    if isinstance(task.market, History) and task.later and "how" in told and settings.folds > 1:
        log.info("walk-forward test in %d parts", settings.folds)
        walked = walk_forward(task.market, task.later, task.rules, settings.seed, told["how"], settings.folds)
        results["walk_forward"] = compared(walked, runs, task.rules, task.overlap)
    sagemaker.write_json(sagemaker.OUTPUT / "results.json", results)
    np.savez_compressed(
        _made(sagemaker.OUTPUT) / "episodes.npz",
        prices=task.held_out.prices[:200],
        actions=runs.actions[:200],
        lots=runs.lots[:200],
        cash=runs.cash[:200],
        values=runs.values[:200],
        final=runs.final[:20_000],
        bound=bound[:20_000],
    )


ENUMERATING = ("greedy on estimated moments", "random")
"""Baselines that try every possible order."""


def joint_orders(rules: Rules) -> int:
    return (2 * rules.largest_order + 1) ** len(rules.assets)


def enumerable(rules: Rules) -> bool:
    """Return whether the possible orders are few enough to try all of them."""
    return joint_orders(rules) <= MOST_JOINT_ORDERS


def too_many(rules: Rules) -> str:
    orders = f"{joint_orders(rules):.3g}" if len(rules.assets) > 9 else f"{joint_orders(rules)}"
    assets, largest = len(rules.assets), rules.largest_order
    return f"{assets} assets with largest_order {largest}, which have {orders} joint orders"


def check_orders(task: Task, settings: Settings) -> None:
    """Raise `FatalError` if the method would have to try too many possible orders."""
    if settings.method == "fitted" and not enumerable(task.rules):
        raise FatalError(
            f"method must be ppo or rllib for {too_many(task.rules)}; fitted takes at most"
            f" {MOST_JOINT_ORDERS}, enough for 5 assets with largest_order 5"
        )


def learn(task: Task, settings: Settings) -> tuple[Any, dict[str, Any]]:
    """Return the policy, and the entries about its training for the model card."""
    rules = task.rules.compiled(task.faithful)
    generator = np.random.default_rng(settings.seed)
    observed = (
        task.market.every()
        if isinstance(task.market, History)
        else task.market.draw(generator, settings.observed)
    )
    means = observed.prices.mean(0, dtype=np.float64)
    told: dict[str, Any] = {
        "episodes_seen": len(observed.prices),
        "curve": [],
        "price_range": _range(observed.prices),
        "signal_range": _range(observed.signals) if observed.signals.shape[2] else None,
        "greedy_estimated": values.Maximiser(values.greedy(means, rules), rules)
        if enumerable(task.rules)
        else None,
    }
    if settings.method == "fitted":
        found, how = values.selected(observed, rules, task.rules.cash, settings.seed)
        log.info("fitted with degree %d, %d states, %d draws", how.degree, how.states, how.draws)
        return values.Maximiser(found, rules), told | {"how": how}
    return (_rllib if settings.method == "rllib" else _ppo)(task, settings, told)


class Recorder:
    """Recorder of the learning curve, also for TensorBoard."""

    def __init__(self, curve: list[dict[str, float]]):
        from tensorboardX import SummaryWriter  # imported here, because method `fitted` has no learning curve

        self.curve = curve
        self.writer = SummaryWriter(str(_made(sagemaker.OUTPUT) / "tensorboard"))

    def add(self, found: dict[str, float]) -> None:
        self.curve.append(found)
        for name, value in found.items():
            self.writer.add_scalar(f"train/{name}", value, int(found["episodes"]))


def _ppo(task: Task, settings: Settings, told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    import torch  # imported here, because method `fitted` does not need it

    from . import ppo

    torch.set_num_threads(settings.threads or 1)
    learner = ppo.Learner(
        task.rules,
        task.market,
        ppo.Hyperparameters(
            episodes=settings.episodes,
            cpu_seconds=settings.cpu_seconds,
            objective=settings.objective,  # pyright: ignore[reportArgumentType]
            seed=settings.seed,
        ),
        task.faithful,
    )
    stop = Interruption()
    kept = sagemaker.CHECKPOINTS / "ppo.pt"
    if kept.exists():
        learner.restore(torch.load(kept, weights_only=False))
        log.info("continuing after %d episodes of an interrupted training", learner.done)
    recorder = Recorder(told["curve"])
    for number, found in enumerate(learner.train(), start=1):
        recorder.add(found)
        if number % 20 == 0:
            log.info("train:value=%.4f episodes=%d", found["mean_final_value"], learner.done)
        if stop.wanted or (settings.checkpoint_every and number % settings.checkpoint_every == 0):
            part = _made(sagemaker.CHECKPOINTS) / ".ppo.pt.part"
            torch.save(learner.state(), part)
            part.replace(kept)
        stop.check()
    told["episodes_seen"] = learner.done
    return learner.policy(), told


def _rllib(task: Task, settings: Settings, told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    import torch

    from . import cluster, rllib

    torch.set_num_threads(1)
    hosts, each = sagemaker.cluster(), settings.runners or os.cpu_count() or 1
    stop = Interruption()
    with cluster.head(hosts, each):
        problem = rllib.problem_of(task.rules, task.market, settings.seed, task.faithful)
        how = replace(
            rllib.RECIPES[settings.recipe],
            episodes=settings.episodes,
            runners=each * hosts.size,
            seed=settings.seed,
        )
        learner, recorder = rllib.RllibLearner(problem, how), Recorder(told["curve"])
        kept = _made(sagemaker.CHECKPOINTS)
        try:
            if learner.restore(kept):
                log.info("continuing from a checkpoint")
            for number, found in enumerate(learner.train(), start=1):
                recorder.add(found)
                log.info("train:value=%.4f episodes=%d", found["mean_final_value"], learner.done)
                if missing := cluster.lost(hosts):
                    log.warning("the Ray nodes of %s are lost; the other hosts continue", ", ".join(missing))
                if stop.wanted or (settings.checkpoint_every and number % settings.checkpoint_every == 0):
                    learner.save(kept)
                stop.check()
            told["samplers"] = dict(learner.samplers())
            log.info("env runners by node: %s", told["samplers"])
            told["episodes_seen"] = learner.done
            return learner.policy(), told
        finally:
            learner.close()


def compare(
    task: Task, policy: Any, greedy_estimated: Any | None, settings: Settings
) -> tuple[dict[str, Any], values.Run, values.Doubles]:
    """Run the policy and the baselines on the held-out episodes.

    Returns a table of the results, the policy's run, and the final values, [E] dollars, of the best baseline
    that uses the true mean prices (an empty array if there is no such baseline).
    """
    rules = task.rules.compiled(task.faithful)
    others: dict[str, Callable[..., Any]] = {"hold": baselines.Hold()}
    if greedy_estimated is not None:
        random = baselines.Random(rules, joint_orders(task.rules), 1)
        others |= dict(zip(ENUMERATING, (greedy_estimated, random), strict=True))
    if not task.faithful:
        others |= {
            "buy and hold": baselines.Rebalance(rules, until=4),
            "1/N": baselines.Rebalance(rules),
        }
    known: dict[str, values.Values] = {}
    if task.curves is not None and enumerable(task.rules):
        known["greedy on known means"] = values.greedy(task.curves.means, rules)
        if settings.program:
            log.info("solving the dynamic program that knows the mean prices")
            known["dynamic program on known means"] = values.program(task.curves, rules, task.rules.cash)
    others |= {name: values.Maximiser(each, rules) for name, each in known.items()}
    ours = values.run(policy, task.held_out, rules, task.rules.cash)
    cash, overlap = task.rules.cash, task.overlap
    table: dict[str, Any] = {"policy": measures.summary(ours, cash, overlap)}
    bound = np.empty(0)
    for name, other in others.items():
        theirs = values.run(other, task.held_out, rules, cash)
        table[name] = measures.summary(theirs, cash, overlap)
        table[name]["gain_of_policy"] = asdict(measures.gain(ours.final, theirs.final, overlap))
        table[name]["ratio_of_policy"] = asdict(measures.ratio(ours.final, theirs.final, overlap))
        if name in known and (not len(bound) or theirs.final.mean() > bound.mean()):
            bound = theirs.final
    return table, ours, bound


def card(
    task: Task, settings: Settings, table: dict[str, Any], told: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Return the model card."""
    market = task.market
    return {
        "variant": task.name,
        "rules": task.rules.as_dict(),
        "method": settings.method,
        "objective": settings.objective if settings.method == "ppo" else "mean",
        "seed": settings.seed,
        "knowledge": f"moments of {told['episodes_seen']} observed episodes; no known means",
        "episodes_seen": told["episodes_seen"],
        "fitting": asdict(told["how"]) if "how" in told else None,
        "cpu_seconds": round(seconds, 1),
        "samplers": told.get("samplers"),
        "steps": market.steps,
        "signals": market.signals,
        "scales": asdict(market.scales) if isinstance(market, History) else None,
        "look_back": LOOK_BACK if market.signals else 0,
        "price_range": told["price_range"],
        "signal_range": told["signal_range"],
        "held_out_episodes": len(task.held_out.prices),
        "value": table["policy"],
        "advice": NO_ADVICE,
    }


def evaluate(settings: Settings) -> None:
    """Compare the models of two channels on the same held-out prices.

    If the champion was trained on another problem, the log has `comparable:value=0` instead of the
    champion's value.
    """
    task = task_of(settings)
    rules = task.rules.compiled()
    with tempfile.TemporaryDirectory() as scratch:
        for side in ("candidate", "champion"):
            policy = Exported(_unpacked(side, Path(scratch) / side))
            if differs := _differs(policy.card, task):
                if side == "candidate":
                    raise FatalError(f"the candidate was trained {differs} than those of this job")
                log.warning("not compared: the champion was trained %s than those of this job", differs)
                log.info("comparable:value=0")
                return
            known = task.seen_by(policy.card)
            some = Episodes(known.prices[:EVALUATED], known.signals[:EVALUATED])
            found = values.run(policy, some, rules, task.rules.cash)
            log.info("%s:value=%.4f", side, found.final.mean())


def _differs(card: dict[str, Any], task: Task) -> str:
    """Return how a policy's problem differs from this job's, or an empty string."""
    if card["rules"] != json.loads(json.dumps(task.rules.as_dict())):
        return "under other rules or on other assets"
    if (card["signals"], card["steps"]) != (task.market.signals, task.market.steps):
        return "on prices of another kind"
    return ""


def _unpacked(side: str, folder: Path) -> Path:
    archive = sagemaker.CHANNELS / side / "model.tar.gz"
    try:
        unpack(archive, folder)
    except ArchiveError as error:
        raise FatalError(f"could not unpack the {side}'s model.tar.gz: {error}") from None
    return folder


def _range(values: Any) -> list[list[float]]:
    """Return the lowest and the highest value of each column of [E, T, columns]."""
    return [values.min((0, 1)).tolist(), values.max((0, 1)).tolist()]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
