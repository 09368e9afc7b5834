"""The scenario, step by step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scenarios import Progress, Report, ScenarioError, ScenarioResult, Story, aws, keep
from scenarios.portfolio_rl import figures, notebook
from scenarios.portfolio_rl.accounts import start
from scenarios.portfolio_rl.job import GREEDY_ESTIMATED, PolicyJob, finished
from scenarios.portfolio_rl.metrics import METRICS
from scenarios.portfolio_rl.service import OrderService, state

SEEDS, SECONDS = (1, 2, 3), 45
"""Seeds of PPO, and the CPU time of each training in seconds."""
AT_ONCE = 3
PPO_HELD_OUT = 20_000
"""Number of held-out episodes of each PPO policy: the first of the best policy's held-out episodes."""
PATIENCE = 60.0
"""Maximum seconds until the stop switch takes effect."""
NO_NUMBER = math.nan

Given = dict[str, Any]


def run(stack: str, out: Path, progress: Progress) -> ScenarioResult:
    """Run the scenario on the deployed stack. Files are written to `out`.

    Raises `ScenarioError` if a check fails. May be run again on the same stack: the new policy is then
    compared with the previous one.
    """
    outputs = aws.outputs(stack)
    service = OrderService(outputs["EndpointName"])
    progress("learning a policy by fitted value iteration")
    first = execute(outputs, {"method": "fitted", "variant": "corrected", "program": True}, progress)
    best = finished(first["training_job"])
    metrics = keep(out, {"seconds_pipeline": first["seconds"]} | of_best(best))

    with ThreadPoolExecutor(2) as pool:  # in parallel, because trading mostly waits for responses
        learning = pool.submit(learn_ppo, outputs, progress)
        progress(f"trading {len(best.prices)} held-out episodes through the endpoint")
        trades = service.trade(best)
        metrics |= {
            "served_orders": trades.orders,
            "constraint_violations": len(trades.violations),
            "served_value_ratio": math.fsum(trades.final) / float(best.values[:, -1].sum()),
        }
        keep(out, metrics)
        if trades.refused or trades.violations:
            raise ScenarioError(
                f"of {trades.orders} valid accounts the endpoint rejected {trades.refused}, and"
                f" {len(trades.violations)} of its orders broke a rule: {trades.violations[:3]}"
            )
        metrics["refused"], refusals = refuse(service, best)
        metrics["seconds_to_stop"], stopped = stop(outputs["StopParameterName"], service, best, progress)
        # starts after the test of the stop switch, because the switch stops the notebook's endpoint too
        beside = pool.submit(notebook.execute, stack, out, progress)
        learned, not_better = learning.result()
        executed, told = beside.result()
    metrics = keep(out, metrics | of_ppo(learned, best))
    version = first["model_package_arn"].rpartition("/")[2]
    metrics["seconds_to_roll_back"], rolled_back = roll_back(outputs, int(version), service, progress)

    drawn = [
        figures.learning(out / "learning.svg", learned, best),
        figures.trades(out / "trades.svg", best),
        figures.final_values(out / "final.svg", best, learned),
        figures.weights(out / "weights.svg", best),
    ]
    (out / "card.json").write_text(json.dumps(best.card, indent=2))
    (out / "table.json").write_text(json.dumps(best.table, indent=2))
    report = Report(
        facts=facts(best),
        path=first["path"],
        figures=drawn,
        stories=[refusals, stopped, not_better, told, rolled_back],
    )
    artifacts = [out / "card.json", out / "table.json", executed, *(figure.path for figure in drawn)]
    return ScenarioResult(metrics, METRICS, artifacts, report)


def execute(outputs: dict[str, str], hyperparameters: Given, progress: Progress) -> Given:
    """Run the state machine. Return its output with the execution's `path` and `seconds`."""
    payload = {"hyperparameters": hyperparameters}
    done = aws.execute(outputs["StateMachineArn"], payload, progress, outputs["EndpointName"])
    return done.succeeded() | {"path": done.path, "seconds": done.seconds}


def facts(job: PolicyJob) -> dict[str, str]:
    """Return the report's facts about the data and about what the policy knows."""
    others = {
        name: f"${row['mean']:,.0f}" for name, row in sorted(job.table.items(), key=lambda each: each[0])
    }
    return {
        "Prices": "Drawn from the model of aws-samples/amazon-sagemaker-rl-action-masking; no market data",
        "Held-out episodes": f"{job.card['held_out_episodes']:,}, the same for every policy and baseline",
        "The policy knows": job.card["knowledge"],
        "Published for this problem": "more than $3,000, with other accounting; docs/portfolio_rl/guide.md",
        "Mean final values": ", ".join(f"{name} {value}" for name, value in others.items()),
        "Note": job.card["advice"],
    }


def of_best(job: PolicyJob) -> dict[str, float]:
    """Return the metrics of the best learned policy and its baselines."""
    policy, ratio, gain = job.table["policy"], job.ratio(), job.table[GREEDY_ESTIMATED]["gain_of_policy"]
    figures_ = {
        "value_best": job.mean(),
        "value_bound": job.mean(job.bound_name),
        "value_greedy_estimated": job.mean(GREEDY_ESTIMATED),
        "value_hold": job.mean("hold"),
        "cpu_seconds_best": job.card["cpu_seconds"],
        "episodes_best": job.card["episodes_seen"],
    }
    figures_ |= with_ends("value_ratio_best_corrected", ratio) | with_ends("gain_over_greedy_estimated", gain)
    names = ("sharpe", "cvar_5", "drawdown", "turnover", "fees")
    return figures_ | {f"{name}_best": policy[name] for name in names}


def of_ppo(jobs: list[PolicyJob], best: PolicyJob) -> dict[str, float]:
    """Return the metrics of PPO's worst seed."""
    worst = min((job.ratio_to(best.bound) for job in jobs), key=lambda ratio: ratio["value"])
    return {"ppo_seeds": len(jobs)} | with_ends("value_ratio_ppo_corrected", worst)


def with_ends(name: str, estimate: dict[str, float]) -> dict[str, float]:
    return {name: estimate["value"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}


# --- other policies ---


def learn_ppo(outputs: dict[str, str], progress: Progress) -> tuple[list[PolicyJob], Story]:
    """Train PPO with several seeds in parallel. Compares each policy with the policy in service."""

    def learn(seed: int) -> Given:
        given = {"method": "ppo", "variant": "corrected", "cpu_seconds": SECONDS, "seed": seed}
        given["held_out"] = PPO_HELD_OUT
        return execute(outputs, given, lambda line: progress(f"PPO: {line}"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(learn, SEEDS))
    jobs = [finished(each["training_job"]) for each in done]
    lost = [each for each in done if not each["deployed"]]
    told = ", ".join(f"${each['candidate_value']:,.0f}" for each in done)
    return jobs, Story(
        "A policy has to be better",
        f"PPO trained for {SECONDS} processor seconds on each of {len(SEEDS)} seeds.",
        f"On the same prices the mean final values are {told}, and ${done[0]['champion_value']:,.0f} for the"
        f" policy in service. {len(lost)} of {len(done)} candidates were not put into service.",
    )


def roll_back(
    outputs: dict[str, str], version: int, service: OrderService, progress: Progress
) -> tuple[float, Story]:
    """Deploy an earlier model version from the registry with one execution."""
    before, progress_line = service.serves(), f"rolling back to version {version}"
    progress(progress_line)
    done = aws.execute(outputs["StateMachineArn"], {"version": version}, progress, outputs["EndpointName"])
    if not done.succeeded()["deployed"] or service.serves() == before:
        raise ScenarioError(f"version {version} of the registry was not put back into service")
    return done.seconds, Story(
        "Rollback with one command",
        f'The state machine was started with {{"version": {version}}}.',
        f"After {done.seconds:.0f} s version {version} of the registry was in service, without training.",
    )


# --- requests that the endpoint must refuse ---


def refuse(service: OrderService, job: PolicyJob) -> tuple[float, Story]:
    """Send four invalid accounts, which must get no trade, with a valid one, which must be accepted."""
    names = [asset["name"] for asset in job.card["rules"]["assets"]]
    prices = dict(zip(names, job.prices[0, 0].astype(float).tolist(), strict=True))
    valid = state(start(job.card["rules"]), prices, 0)
    choices = 2 * job.card["rules"]["largest_order"] + 1
    invalid = {
        "an empty mask": valid | {"mask": dict.fromkeys(names, [False] * choices)},
        "cash that is no number": valid | {"cash": NO_NUMBER},
        "an asset missing": valid | {"holdings": dict.fromkeys(names[1:], 0)},
        "a text for a price": valid | {"prices": prices | {names[0]: "40"}},
    }
    answers = service.ask([valid, *invalid.values()])
    kept = [
        name
        for name, order in zip(invalid, answers[1:], strict=True)
        if order["valid"] is False and not any(order["units"].values())
    ]
    if not answers[0]["valid"]:
        raise ScenarioError(f"a valid account in a request with invalid ones was rejected: {answers[0]}")
    reasons = "; ".join(
        f"{name}: {order['reason']}" for name, order in zip(invalid, answers[1:], strict=True)
    )
    return float(len(kept)), Story(
        "Invalid accounts",
        "Four invalid accounts in one request with a valid one.",
        f"No trade. {reasons}.",
    )


def stop(parameter: str, service: OrderService, job: PolicyJob, progress: Progress) -> tuple[float, Story]:
    """Stop all trading with the stop switch, and start it again."""
    progress("stopping all trades, and starting them again")
    names = [asset["name"] for asset in job.card["rules"]["assets"]]
    prices = dict(zip(names, job.prices[0, 0].astype(float).tolist(), strict=True))
    account = state(start(job.card["rules"]), prices, 0)
    switch = aws.client("ssm")

    def turned(to: str, ends: Callable[[Given], bool]) -> tuple[float, Given]:
        switch.put_parameter(Name=parameter, Value=to, Overwrite=True)
        begun = time.monotonic()
        while not ends(answer := service.ask([account])[0]):
            if time.monotonic() - begun > PATIENCE:
                raise ScenarioError(
                    f"{PATIENCE:.0f} s after the switch was set to {to}, the endpoint returned {answer}"
                )
            time.sleep(0.5)
        return time.monotonic() - begun, answer

    try:
        seconds, refused = turned("stop", lambda answer: not answer["valid"])
    finally:
        turned("go", lambda answer: answer["valid"])
    return seconds, Story(
        "The stop switch",
        f"The parameter {parameter} was set to stop.",
        f"After {seconds:.0f} s every account got no trade, with the reason “{refused['reason']}”."
        " After it was set to go, the endpoint traded again.",
    )
