"""The state machines: `prepare` makes an hour's dataset, `bid` its offers, `backfill` prepares many hours.

    prepare:  Accept -> four feeds in parallel, with waits for late ones -> Consolidate -> Tell
              on any error: TellAnyway, so that offers use the data available -> Failed
    bid:      Accept -> CheckModel -> current? -- no --> Retrain, waits for the pipeline -> Bid, by asset
    backfill: each hour of a list -> prepare

Optional fields of an execution's input: `rate` makes it a replay at `rate` times real time; `retrain`
requests a new model; `quiet` prepares an hour without starting its offers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import Aws

from groundplan.states import Branch, Flow, Rule
from settings.power_bidding import PowerBidding

FEEDS = {
    "market_prices": "MarketPrices",
    "load": "Load",
    "weather": "Weather",
    "price_forecast": "PriceForecast",
}
"""The feeds, with the construct ids of their functions."""
SOURCE = "groundplan.power_bidding"
DATASET = "Dataset made"
"""Detail type of the event that reports a prepared hour."""
TRIES = 5
"""Maximum number of fetches of a feed that is late or down, within `late_minutes`."""
FETCH_SECONDS = 120
WORK_SECONDS = 180
"""Timeouts in seconds of states that invoke a function: a function that fetches a feed, and any other."""
MARKET_TRIES = 14
"""Maximum number of retries of an offer while the market does not answer; they last beyond the deadline"""
SPARE_MINUTES = 3
"""Minutes between the end of the wait for a retraining and the deadline of the offers."""
HOUR = r"/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00Z$/"
INVOKE = "lambda:invoke"
KILLED = ("Runtime.ExitError", "Sandbox.Timedout", "Lambda.Unknown")
"""Errors of a function that crashed or timed out."""


def prepare(settings: PowerBidding, functions: Mapping[str, str], *, bus: str) -> dict[str, Any]:
    """Return the definition of `prepare`. `functions` has the functions' ARNs by construct id."""
    pause = 60 * settings.late_minutes / (TRIES - 1)
    flow = Flow(undo="IsUntold")
    flow.settle(
        "Accept",
        {
            **Flow.UNFAILED,
            "at": "Accept",
            # the scheduler passes the time at which it fired, a few minutes into the hour
            "hour": "{% $exists($states.input.hour) ? $states.input.hour"
            " : $substring($states.input.time, 0, 13) & ':00Z' %}",
            "rate": "{% $exists($states.input.rate) ? $states.input.rate : 1 %}",
            "quiet": "{% $exists($states.input.quiet) ? $states.input.quiet : false %}",
            "retrain": "{% $exists($states.input.retrain) ? $states.input.retrain : false %}",
        },
        "IsAccepted",
    )
    flow.choose(
        "IsAccepted",
        Rule(
            when=f"{{% $contains($hour, {HOUR}) and $type($rate) = 'number' and $rate > 0 %}}",
            then="Fetch",
            assign={"pause": _scaled(pause), "tries": _tries(60 * settings.late_minutes, pause)},
        ),
        otherwise="Failed",
        assign={
            "at": "Accept",
            "reason": "Accept: hour must be a text such as 2022-01-31T05:00Z, rate a number above 0",
        },
    )
    flow.parallel(
        "Fetch",
        [_feed(feed, functions[id]) for feed, id in FEEDS.items()],
        "Consolidate",
        assign={"feeds": "{% $states.result %}"},
    )
    _invoke(
        flow,
        "Consolidate",
        functions["Consolidate"],
        {"hour": "{% $hour %}", "feeds": "{% $feeds %}"},
        "IsQuiet",
        assign={"dataset": "{% $states.result.Payload %}"},
    )
    flow.states["Consolidate"]["Retry"] = [_again("States.ALL", attempts=2)]
    flow.choose("IsQuiet", Rule(when="{% $quiet %}", then="Report"), otherwise="Tell")
    event = {"Source": SOURCE, "DetailType": DATASET, "EventBusName": bus}

    def told(dataset: str) -> dict[str, Any]:
        detail = f"{{% $merge([{dataset}, {{'rate': $rate, 'retrain': $retrain}}]) %}}"
        return {"Entries": [{**event, "Detail": detail}]}

    flow.call("Tell", "events:putEvents", told("$dataset"), "Report")
    flow.report("Report", "{% $dataset %}")
    # `TellAnyway` starts `bid` after a failure too, because offers are possible without a dataset
    flow.choose("IsUntold", Rule(when="{% $quiet %}", then="Failed"), otherwise="TellAnyway")
    flow.try_to("TellAnyway", "events:putEvents", told("{'hour': $hour, 'version': 0}"), "Failed")
    seconds = 60 * settings.late_minutes + TRIES * FETCH_SECONDS + WORK_SECONDS + 600
    return flow.definition("Accept", seconds=seconds)


def _feed(feed: str, function: str) -> Branch:
    """Return the branch that fetches a feed. Late feeds are retried; failed feeds are reported as missing."""
    word = feed.title().replace("_", "")
    got, tries = f"got_{feed}", f"tries_{feed}"
    branch = Branch(f"Begin{word}")
    branch.settle(f"Begin{word}", {tries: 0}, f"Fetch{word}")
    branch.call(
        f"Fetch{word}",
        INVOKE,
        {"FunctionName": function, "Payload": {"hour": "{% $hour %}", "attempt": f"{{% ${tries} %}}"}},
        f"Judge{word}",
        assign={got: "{% $states.result.Payload %}", tries: f"{{% ${tries} + 1 %}}"},
        seconds=FETCH_SECONDS,
    )
    state = branch.states[f"Fetch{word}"]
    state["Retry"] += [_again(*KILLED, attempts=2)]
    missing = f"{{'feed': '{feed}', 'hour': $hour, 'status': 'missing', 'reason': $states.errorOutput.Error"
    told = {got: f"{{% {missing} & ' ' & $string($states.errorOutput.Cause)}} %}}"}
    state["Catch"] = [
        {
            "ErrorEquals": ["FeedDownError"],
            "Assign": {**told, tries: f"{{% ${tries} + 1 %}}"},
            "Output": {},
            "Next": f"Judge{word}",
        },
        {"ErrorEquals": ["States.ALL"], "Assign": told, "Output": {}, "Next": f"Told{word}"},
    ]
    branch.choose(
        f"Judge{word}",
        Rule(when=f"{{% ${got}.status in ['late', 'missing'] and ${tries} < $tries %}}", then=f"Wait{word}"),
        otherwise=f"Told{word}",
    )
    branch.pause(f"Wait{word}", "{% $pause %}", f"Fetch{word}")
    branch.report(f"Told{word}", f"{{% ${got} %}}")
    return branch


def bid(settings: PowerBidding, functions: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition of `bid`."""
    names = [asset.partition("@")[0] for asset in settings.assets]
    minutes = 60 * settings.lead_hours - settings.market.offer_minutes - settings.late_minutes - SPARE_MINUTES
    flow = Flow()
    flow.settle(
        "Accept",
        {
            **Flow.UNFAILED,
            "at": "Accept",
            "hour": "{% $states.input.hour %}",
            "version": "{% $states.input.version %}",
            "rate": "{% $exists($states.input.rate) ? $states.input.rate : 1 %}",
            "retraining": "none",
            "assets": names,
        },
        "IsAsked",
        pass_on=True,
    )
    # Functions are not faster in a replay, so half of the time is left to the states other than Retrain
    share = "($rate > 1 ? 0.5 : 1)"
    patience = {"patience": f"{{% $max([1, $floor({60 * minutes} / $rate * {share})]) %}}"}
    asked = "{% $exists($states.input.retrain) and $states.input.retrain %}"
    flow.choose(
        "IsAsked", Rule(when=asked, then="Retrain", assign=patience), otherwise="CheckModel", assign=patience
    )
    _invoke(
        flow,
        "CheckModel",
        functions["CheckModel"],
        {"hour": "{% $hour %}"},
        "IsCurrent",
        assign={"model": "{% $states.result.Payload %}"},
    )
    flow.states["CheckModel"]["Catch"] = _anyway("Bid", "retraining")
    flow.choose(
        "IsCurrent",
        Rule(when="{% $model.current %}", then="Bid"),
        otherwise="Retrain",
    )
    flow.wait_for_callback(
        "Retrain",
        INVOKE,
        {
            "FunctionName": functions["Retrain"],
            "Payload": {
                "hour": "{% $hour %}",
                "token": "{% $states.context.Task.Token %}",
                "execution": "{% $states.context.Execution.Id %}",
            },
        },
        "Bid",
        seconds="{% $patience + 1 %}",
        heartbeat="{% $patience %}",
        assign={"retraining": "{% $states.result.status %}"},
    )
    flow.states["Retrain"]["Retry"] = [_again(*KILLED, attempts=2)]
    # if the retraining fails or takes longer than `$patience`, the model in service makes the offers
    flow.states["Retrain"]["Catch"] = _anyway("Bid", "retraining")
    branch = Branch("Begin")
    given = {"hour": "{% $hour %}", "version": "{% $version %}", "asset": "{% $asset %}"}
    branch.settle("Begin", {"asset": "{% $states.input.asset %}"}, "MakeBids")
    branch.call(
        "MakeBids",
        INVOKE,
        {"FunctionName": functions["MakeBids"], "Payload": given},
        None,
        output="{% $states.result.Payload %}",
        seconds=WORK_SECONDS,
    )
    state = branch.states["MakeBids"]
    state["Retry"] += [
        _again("EndpointThrottledError", "MarketDownError", attempts=4),
        _again(*KILLED, attempts=2),
    ]
    state["Catch"] = [
        {
            "ErrorEquals": ["States.ALL"],
            "Assign": {"why": "{% $states.errorOutput.Error & ' ' & $string($states.errorOutput.Cause) %}"},
            "Output": {},
            "Next": "FallBack",
        }
    ]
    branch.call(
        "FallBack",
        INVOKE,
        {"FunctionName": functions["FallBack"], "Payload": {**given, "error": "{% $why %}"}},
        None,
        output="{% $states.result.Payload %}",
        seconds=WORK_SECONDS,
    )
    branch.states["FallBack"]["Retry"] += [
        # raised only before the offer's deadline; after the deadline, the function records a no-offer
        _again("MarketDownError", attempts=MARKET_TRIES) | {"MaxDelaySeconds": 300},
        _again("States.ALL", attempts=3),
    ]
    flow.each(
        "Bid",
        "{% $assets %}",
        branch,
        "Report",
        at_once=min(len(names), 10),
        select={"asset": "{% $states.context.Map.Item.Value %}"},
        assign={"offers": "{% $states.result %}"},
    )
    flow.report("Report", "{% {'hour': $hour, 'retraining': $retraining, 'offers': $offers} %}")
    return flow.definition("Accept", seconds=60 * (60 * settings.lead_hours + minutes) + 10 * WORK_SECONDS)


def backfill(machine: str) -> dict[str, Any]:
    """Return the definition of `backfill`. Its input is the `bucket` and `key` of a list of hours in S3.

    Past hours get no offers. `machine` is the ARN of `prepare`.
    """
    branch = Branch("Prepare")
    branch.call(
        "Prepare",
        "states:startExecution.sync:2",
        {"StateMachineArn": machine, "Input": {"hour": "{% $states.input %}", "quiet": True}},
        None,
        seconds=7200,
    )
    flow = Flow()
    flow.settle(
        "Accept",
        {
            **Flow.UNFAILED,
            "at": "Accept",
            "bucket": "{% $states.input.bucket %}",
            "key": "{% $states.input.key %}",
        },
        "Hours",
    )
    flow.each_of_many(
        "Hours",
        {
            "Resource": f"arn:{Aws.PARTITION}:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Arguments": {"Bucket": "{% $bucket %}", "Key": "{% $key %}"},
        },
        branch,
        "Report",
        at_once=1,  # OASIS accepts one request in five seconds per IP address
        tolerated_percent=10,
    )
    flow.report("Report", {"prepared": True})
    return flow.definition("Accept", seconds=14 * 86_400)


def _invoke(
    flow: Flow, name: str, function: str, payload: Mapping[str, Any], then: str, *, assign: Mapping[str, Any]
) -> None:
    """Add an invocation of a function."""
    arguments = {"FunctionName": function, "Payload": dict(payload)}
    flow.call(name, INVOKE, arguments, then, assign=assign, seconds=WORK_SECONDS)


def _scaled(seconds: float) -> str:
    """Return the JSONata of `seconds` divided by the replay's rate: whole seconds, at least 1."""
    return f"{{% $max([1, $ceil({seconds:g} / $rate)]) %}}"


def _tries(seconds: float, pause: float) -> str:
    """Return the JSONata of the maximum number of fetches of a feed in `seconds`, `pause` seconds apart. Both
    are divided by the replay's rate, and the pause is rounded up to whole seconds."""
    return f"{{% 1 + $floor({seconds:g} / $rate / $max([1, $ceil({pause:g} / $rate)])) %}}"


def _anyway(then: str, variable: str) -> list[dict[str, Any]]:
    """Return the catchers that store any error in a variable and continue at `then`."""
    reason = "{% $states.errorOutput.Error & ' ' & $string($states.errorOutput.Cause) %}"
    return [{"ErrorEquals": ["States.ALL"], "Assign": {variable: reason}, "Output": {}, "Next": then}]


def _again(*errors: str, attempts: int) -> dict[str, Any]:
    """Return a retrier with pauses of 1, 2, 4, ... seconds."""
    return {"ErrorEquals": list(errors), "IntervalSeconds": 1, "MaxAttempts": attempts, "BackoffRate": 2}
