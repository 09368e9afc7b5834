"""Endpoints: creation, updates, deletion and invocation.

An endpoint's record in the store has the response of DescribeEndpoint, and the variants in service
(`_Variants`). With `_Variants`, an endpoint can be restarted even if its configuration or model was deleted.
The endpoint's containers are a `Fleet` (`serving.py`) in `Store.live`. Create, update and delete return
immediately and do their work in a thread. Only `_advance` changes the status of an existing endpoint; it also
publishes the event for the change.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from local import faults
from local.sagemaker import models, quotas, records, rolling, served, tags
from local.sagemaker.api import ApiError, Context, invalid, now, operation, page
from local.sagemaker.instances import clean
from local.sagemaker.models import CONFIG
from local.sagemaker.multi_model import checked_target
from local.sagemaker.platform import Platform
from local.sagemaker.quotas import setting
from local.sagemaker.reply import Reply
from local.sagemaker.serving import Fleet, ThrottledError, Variant
from local.sagemaker.serving_container import KIND as INSTANCES
from local.sagemaker.serving_container import ServingError, multi_model
from local.sagemaker.store import Record, Store
from local.sagemaker.traffic import Traffic

ENDPOINT = "endpoint"
LONGEST_REASON = 1_024

logger = logging.getLogger(__name__)

_endpoint = records.named(ENDPOINT, "EndpointName")


def _with_config(context: Context, params: dict[str, Any]) -> list[str]:
    config = context.arn(CONFIG, str(params.get("EndpointConfigName", "")))
    return [_endpoint(context, params), config]


def _key(context: Context, name: str) -> tuple[str, ...]:
    return ENDPOINT, context.account, context.region, name


def _fleet(context: Context, name: str) -> Fleet | None:
    with context.store.store.exclusive():
        return context.store.store.live.get(_key(context, name))


def _missing(context: Context, name: str) -> str:
    return f'Could not find endpoint "{context.arn(ENDPOINT, name)}".'


def _find(context: Context, name: str) -> Record:
    return records.find(context, ENDPOINT, name, _missing(context, name))


# Operations


@operation("CreateEndpoint", _with_config)
def create_endpoint(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    _check_deployment(params, "CreateEndpoint")
    name = params["EndpointName"]
    config = _config(context, params["EndpointConfigName"])
    rolling.policy(params, config["ProductionVariants"])
    _check_serverless(context, name, config)
    record = {
        "EndpointName": name,
        "EndpointArn": context.arn(ENDPOINT, name),
        "EndpointConfigName": params["EndpointConfigName"],
        "EndpointStatus": "Creating",
        "CreationTime": now(),
        "LastModifiedTime": now(),
        "LastDeploymentConfig": params.get("DeploymentConfig"),
        "_Variants": [],
    }
    taken = f'Cannot create already existing endpoint "{record["EndpointArn"]}".'
    arn = records.create(context, ENDPOINT, name, record, params.get("Tags"), taken)
    _publish(context, record)
    _in_background(_create, context, name, config)
    return {"EndpointArn": arn}


def _check_serverless(context: Context, name: str, config: Record) -> None:
    """Raise ApiError if the account's serverless endpoints together would exceed the account's concurrency
    quota."""
    asked = _concurrency(config["ProductionVariants"])
    if not asked:
        return
    others = [each for each in context.store.all(ENDPOINT) if each["EndpointName"] != name]
    configs = [context.store.get(CONFIG, each["EndpointConfigName"]) or {} for each in others]
    used = sum(_concurrency(each.get("ProductionVariants", [])) for each in configs)
    most = setting(context.platform, "serverless_concurrency")
    if used + asked > most:
        quota = "Maximum total concurrency that can be allocated across all serverless endpoints"
        raise quotas.limit_exceeded(quota, most, used, asked, "Units")


def _concurrency(variants: list[Record]) -> int:
    return sum(each.get("ServerlessConfig", {}).get("MaxConcurrency", 0) for each in variants)


@operation("UpdateEndpoint", _with_config)
def update_endpoint(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    _check_deployment(params, "UpdateEndpoint")
    name = params["EndpointName"]
    _find(context, name)
    config = _config(context, params["EndpointConfigName"])
    _check_serverless(context, name, config)
    keep = set(_RETAINED if params.get("RetainAllVariantProperties") else ()) - {
        each["VariantPropertyType"] for each in params.get("ExcludeRetainedVariantProperties", [])
    }
    pending = {"EndpointConfigName": config["EndpointConfigName"], "StartTime": now()}
    policy = rolling.policy(params, config["ProductionVariants"])
    deployment = params.get("DeploymentConfig")
    _begin(context, name, "Updating", PendingDeploymentSummary=pending, LastDeploymentConfig=deployment)
    _in_background(_update, context, name, config, keep, policy)
    return {"EndpointArn": context.arn(ENDPOINT, name)}


@operation("UpdateEndpointWeightsAndCapacities", _endpoint)
def update_weights(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name = params["EndpointName"]
    known = {spec["VariantName"] for spec in _find(context, name)["_Variants"]}
    changes = {each["VariantName"]: each for each in params["DesiredWeightsAndCapacities"]}
    if len(changes) < len(params["DesiredWeightsAndCapacities"]):
        raise invalid("The names of the production variants must differ from each other.")
    for variant in changes:
        if variant not in known:
            raise invalid(f'The endpoint "{context.arn(ENDPOINT, name)}" has no variant {variant}.')
    _begin(context, name, "Updating")
    _in_background(_reweigh, context, name, changes)
    return {"EndpointArn": context.arn(ENDPOINT, name)}


@operation("DeleteEndpoint", _endpoint)
def delete_endpoint(context: Context, params: dict[str, Any]) -> None:
    name = params["EndpointName"]
    _begin(context, name, "Deleting", after=("InService", "Failed", "OutOfService"))
    _in_background(_delete, context, name)


@operation("DescribeEndpoint", _endpoint)
def describe_endpoint(context: Context, params: dict[str, Any]) -> Record:
    name = params["EndpointName"]
    record, fleet = _find(context, name), _fleet(context, name)
    if fleet is not None:
        record["ProductionVariants"] = [_described(each, fleet) for each in record["_Variants"]]
    return record


def _described(spec: Record, fleet: Fleet) -> Record:
    """Return the description of a variant. `CurrentInstanceCount` is its number of running containers."""
    name = spec["VariantName"]
    weight = fleet.weights.get(name)
    shown: Record = {
        "VariantName": name,
        "DeployedImages": [{"SpecifiedImage": spec["Container"]["Image"], "ResolutionTime": spec["Since"]}],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
    }
    if serverless := spec.get("ServerlessConfig"):
        return shown | {"CurrentServerlessConfig": serverless, "DesiredServerlessConfig": serverless}
    variant = fleet.variants.get(name)
    running = variant.running if variant is not None else 0
    return shown | {"CurrentInstanceCount": running, "DesiredInstanceCount": spec["InitialInstanceCount"]}


@operation("ListEndpoints")
def list_endpoints(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    found = [records.summary(each, *members) for each in context.store.all(ENDPOINT)]
    return page(params, found, "Endpoints")


def _config(context: Context, name: str) -> Record:
    return records.find(context, CONFIG, name, models.missing_config(context, name))


def _check_deployment(params: dict[str, Any], name: str) -> None:
    """Raise ApiError for an automatic rollback or a blue/green traffic shift other than ALL_AT_ONCE."""
    given = params.get("DeploymentConfig", {})
    records.refuse_unbuilt(name, given, "AutoRollbackConfiguration")
    policy = given.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    if policy.get("Type", "ALL_AT_ONCE") != "ALL_AT_ONCE":
        records.refuse_unbuilt(name, policy, "Type")


# Background work


def _in_background(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, name=f"endpoint {arguments[1]}", daemon=True).start()


def _create(context: Context, name: str, config: Record) -> None:
    try:
        fleet, specs = _start(context, name, config, {})
    except ServingError as error:
        _advance(context, name, "Failed", FailureReason=_cut(error))
        return
    _install(context, name, fleet, config, specs)


def _update(
    context: Context, name: str, config: Record, keep: set[str], policy: Record | None = None
) -> None:
    """Start a new fleet, then replace the one in service. If the new fleet does not start, keep the old
    one."""
    before = {spec["VariantName"]: spec for spec in _find(context, name)["_Variants"]} if keep else {}
    serving = _fleet(context, name)
    rolled = serving if policy and serving is not None and rolling.applies(serving) else None
    try:
        fleet, specs = _start(context, name, config, before, keep, rolled, policy)
    except ServingError as error:
        _advance(context, name, "RollingBack")
        _advance(context, name, "InService", FailureReason=_cut(error), PendingDeploymentSummary=None)
        return
    _install(context, name, fleet, config, specs)
    if serving is not None:
        serving.close(drain=setting(context.platform, "invocation_timeout"))


def _start(
    context: Context,
    name: str,
    config: Record,
    before: dict[str, Record],
    keep: set[str] | None = None,
    rolled: Fleet | None = None,
    policy: Record | None = None,
) -> tuple[Fleet, list[Record]]:
    """Return a started fleet (the containers of all variants) and its variants' specifications. Raises
    ServingError.

    :param before: specifications of the variants in service, by name
    :param keep: keys of `_RETAINED`: the properties that variants keep from `before`
    :param rolled: fleet to replace by the rolling policy; only the last batch of its instances is still
        running afterwards
    :param policy: rolling policy
    """
    try:
        specs = [_resolved(context, variant) for variant in config["ProductionVariants"]]
        for spec in specs:
            for member in (_RETAINED[each] for each in keep or ()):
                if member in before.get(spec["VariantName"], {}) and member in spec:
                    spec[member] = before[spec["VariantName"]][member]
        if rolled is not None and policy is not None:
            return rolling.roll(context, _key(context, name), name, rolled, specs[0], policy), specs
        fleet = Fleet(context, name, specs)
        # Registered, so that a shutdown of the server closes it
        with context.store.store.exclusive():
            context.store.store.live[("starting", *_key(context, name))] = fleet
        try:
            fleet.start()
        finally:
            with context.store.store.exclusive():
                context.store.store.live.pop(("starting", *_key(context, name)), None)
        return fleet, specs
    except (ServingError, ApiError) as error:
        raise ServingError(str(error)) from error
    except Exception as error:  # otherwise the endpoint would keep its transitional status forever
        logger.exception("Could not start endpoint %s", name)
        raise ServingError(f"InternalServerError: {type(error).__name__}: {error}") from error


_RETAINED = {"DesiredWeight": "InitialVariantWeight", "DesiredInstanceCount": "InitialInstanceCount"}
"""Members of a variant that an update with RetainAllVariantProperties keeps, by VariantPropertyType."""


def _install(context: Context, name: str, fleet: Fleet, config: Record, specs: list[Record]) -> None:
    """Put a started fleet in service, and set the endpoint's status to InService."""
    with context.store.store.exclusive():
        context.store.store.live[_key(context, name)] = fleet
    capture = config.get("DataCaptureConfig")
    summary = capture and {
        "EnableCapture": capture.get("EnableCapture", False),
        "CaptureStatus": "Stopped",  # the setting is stored, but no data is captured
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }
    _advance(
        context,
        name,
        "InService",
        EndpointConfigName=config["EndpointConfigName"],
        DataCaptureConfig=summary,
        PendingDeploymentSummary=None,
        FailureReason=None,
        _Variants=specs,
    )


def _resolved(context: Context, variant: Record) -> Record:
    """Return the specification that `Variant` takes: the variant's members and its model's container."""
    given = ("ServerlessConfig", "InitialInstanceCount", "VolumeSizeInGB")
    patience = "ContainerStartupHealthCheckTimeoutInSeconds"
    shown = records.summary(variant, "VariantName", "ModelName", "InitialVariantWeight", *given, patience)
    return shown | served.of_model(context, variant["ModelName"]) | {"Since": now()}


def _reweigh(context: Context, name: str, changes: dict[str, Record]) -> None:
    specs = _find(context, name)["_Variants"]
    for spec in specs:
        change = changes.get(spec["VariantName"], {})
        for asked, member in _RETAINED.items():
            if asked in change:
                spec[member] = change[asked]
        if "ServerlessUpdateConfig" in change:
            spec["ServerlessConfig"] |= change["ServerlessUpdateConfig"]
    fleet, reason = _fleet(context, name), None
    try:
        if fleet is not None:
            fleet.adjust(specs)
    except ServingError as error:  # the containers that ran before still serve
        reason = _cut(error)
    except Exception as error:  # otherwise the endpoint would keep its transitional status forever
        logger.exception("Could not change the variants of endpoint %s", name)
        reason = _cut(error)
    _advance(context, name, "InService", _Variants=specs, FailureReason=reason)


def _delete(context: Context, name: str) -> None:
    with context.store.store.exclusive():
        fleet = context.store.store.live.pop(_key(context, name), None)
        traffic = context.store.store.live.pop(("traffic", *_key(context, name)), None)
    for each in (fleet, traffic):
        if each is not None:
            each.close()
    record = context.store.get(ENDPOINT, name)
    if record is not None:
        given = tags.attached(context.store, record["EndpointArn"])
        records.remove(context, ENDPOINT, name, _missing(context, name))
        _publish(context, record | {"EndpointStatus": "Deleted"}, given)


def _cut(error: Exception) -> str:
    return str(error)[:LONGEST_REASON]


# Status and events


def _begin(
    context: Context, name: str, status: str, after: tuple[str, ...] = ("InService",), **members: Any
) -> None:
    """Set the status of an endpoint that is in one of the statuses `after`. Raises ApiError otherwise."""

    def check(record: Record) -> None:
        if record["EndpointStatus"] not in after:
            what = "failed" if record["EndpointStatus"] == "Failed" else "in-progress"
            raise invalid(f'Cannot update {what} endpoint "{record["EndpointArn"]}".')

    if not _advance(context, name, status, check, **members):
        raise invalid(_missing(context, name))


def _advance(
    context: Context,
    name: str,
    status: str,
    check: Callable[[Record], None] = lambda record: None,
    **members: Any,
) -> bool:
    """Set an endpoint's status and members, and publish the event. Return False if the endpoint does not
    exist.

    :param check: called with the record before the change; if it raises, nothing is changed
    :param members: new values; responses omit members that are None
    """

    def edit(record: Record) -> None:
        check(record)
        record |= members | {"EndpointStatus": status, "LastModifiedTime": now()}

    record = context.store.change(ENDPOINT, name, edit)
    if record is not None:
        _publish(context, record)
    return record is not None


def _publish(context: Context, record: Record, given: tags.Tags | None = None) -> None:
    arn = record["EndpointArn"]
    variants = [
        {
            "DesiredWeight": spec["InitialVariantWeight"],
            "DesiredInstanceCount": spec.get("InitialInstanceCount", 0),
        }
        for spec in record["_Variants"]
    ]
    detail = records.summary(record, "EndpointName", "EndpointArn", "EndpointConfigName", "FailureReason") | {
        "ProductionVariants": variants,
        "EndpointStatus": _EVENT_STATUS.get(record["EndpointStatus"], record["EndpointStatus"].upper()),
        "CreationTime": round(record["CreationTime"] * 1000),
        "LastModifiedTime": round(record["LastModifiedTime"] * 1000),
        "Tags": {tag["Key"]: tag["Value"] for tag in given or tags.attached(context.store, arn)},
    }
    try:
        context.platform.publish(
            context.account, context.region, "SageMaker Endpoint State Change", detail, arn
        )
    except Exception:  # a failure of the event bus must not block the change of status
        logger.exception("Could not publish the state change of %s", arn)


_EVENT_STATUS = {"InService": "IN_SERVICE", "OutOfService": "OUT_OF_SERVICE", "RollingBack": "ROLLING_BACK"}


# Invocation


_LIMIT, _SERVERLESS_LIMIT = 6 * 1024 * 1024, 4 * 1024 * 1024
_TARGET_MODEL = "x-amzn-sagemaker-target-model"
_TO_CONTAINER = (
    *("content-type", "accept", "x-amzn-sagemaker-custom-attributes", _TARGET_MODEL),
    *("x-amzn-sagemaker-inference-id", "x-amzn-sagemaker-session-id"),
)
_TO_CALLER = (
    *("Content-Type", "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-New-Session-Id"),
    "X-Amzn-SageMaker-Closed-Session-Id",
)
_CONDITIONS = {
    _TARGET_MODEL: "sagemaker:TargetModel",
    "x-amzn-sagemaker-target-variant": "sagemaker:TargetVariant",
}
"""IAM condition keys of InvokeEndpoint, by the request header with the key's value."""
_UNBUILT = {
    "x-amzn-sagemaker-target-container-hostname": "TargetContainerHostname",
    "x-amzn-sagemaker-enable-explanations": "EnableExplanations",
    "x-amzn-sagemaker-inference-component": "InferenceComponentName",
}

Response = tuple[int, dict[str, str], bytes]


def invoke(context: Context, name: str, headers: Mapping[str, str], body: bytes) -> Response:
    """Execute InvokeEndpoint. Errors of the container are returned as a ModelError response, as on AWS.

    Raises ApiError for other errors.

    :param headers: with names in lower case
    """
    began = time.monotonic()
    arn = context.arn(ENDPOINT, name)
    if context.access_key is not None:
        said = {key: headers[header] for header, key in _CONDITIONS.items() if headers.get(header)}
        context.platform.authorize(
            context.account, context.region, context.access_key, "sagemaker:InvokeEndpoint", arn, said
        )
    unbuilt = {member: headers.get(header) for header, member in _UNBUILT.items()}
    records.refuse_unbuilt("InvokeEndpoint", unbuilt, *unbuilt)
    text = faults.value(context.platform, "fault_throttle_request")
    if text.encode() in body and faults.take(context.platform, "fault_throttle_endpoints"):
        raise ApiError("ThrottlingException", "Rate exceeded", 400)
    target = headers.get("x-amzn-sagemaker-target-variant")
    while True:
        variant = _serving(context, name, target)
        try:
            with variant.turn() as taken:
                if taken:
                    return _ask(context, name, variant, headers, body, began)
        except ThrottledError:
            # AWS's runtime returns status 400; SDKs retry because of the error code
            limit = variant.spec["ServerlessConfig"]["MaxConcurrency"]
            message = f"The endpoint {name} is at its maximum concurrency of {limit}. Rate exceeded"
            raise ApiError("ThrottlingException", message, 400) from None
        # The endpoint was updated or deleted after the variant was chosen: choose again


def _refused(message: str) -> ApiError:
    return ApiError("ValidationError", message, 400)


def _serving(context: Context, name: str, target: str | None) -> Variant:
    record = context.store.get(ENDPOINT, name)
    if record is None:
        raise _refused(f"Endpoint {name} of account {context.account} not found.")
    fleet = _fleet(context, name)
    if fleet is None or record["EndpointStatus"] == "Deleting":
        raise _refused(
            f"Endpoint {name} of account {context.account} is not in service: "
            f"its status is {record['EndpointStatus']}."
        )
    variant = fleet.choose(target)
    if variant is None:
        raise _refused(f"Endpoint {name} of account {context.account} has no variant {target}.")
    return variant


def _ask(
    context: Context, name: str, variant: Variant, headers: Mapping[str, str], body: bytes, began: float
) -> Response:
    limit = _SERVERLESS_LIMIT if variant.serverless else _LIMIT
    if len(body) > limit:
        raise _refused(
            "1 validation error detected: Value at 'body' failed to satisfy constraint: "
            f"Member must have length less than or equal to {limit}"
        )
    target = _target(variant, headers.get(_TARGET_MODEL))
    traffic = _traffic(context, name)
    reply, started, reason = None, False, ""
    try:
        started = variant.start()
        forwarded = {header: headers[header] for header in _TO_CONTAINER if header in headers}
        reply = variant.ask(forwarded, body, target)
        if len(reply.body) > limit:
            reply, reason = None, f"The response is larger than {limit} bytes."
    except ServingError as error:
        reason = str(error)
    except ApiError as error:  # the target model cannot be loaded
        refusal = Reply(error.status, {}, error.message.encode(), 0.0)
        traffic.count(variant, refusal, time.monotonic() - began, started)
        raise
    except TimeoutError:
        reason = (
            "Your invocation timed out while waiting for a response from container primary. Review the "
            "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
        )
    except (OSError, http.client.HTTPException) as error:
        reason = f"The container did not answer the request: {error or type(error).__name__}"
    traffic.count(variant, reply, time.monotonic() - began, started)
    if reply is None or not 200 <= reply.status < 300:
        return _model_error(context, variant, reply, reason)
    given = {header.lower(): value for header, value in reply.headers.items()}
    answer = {header: given[header.lower()] for header in _TO_CALLER if header.lower() in given}
    return 200, answer | {"x-Amzn-Invoked-Production-Variant": variant.name}, reply.body


def _target(variant: Variant, given: str | None) -> str | None:
    """Return the target model of a request to a multi-model variant, else None. Raises ApiError."""
    if not multi_model(variant.spec):
        return None
    if given is None:
        raise _refused("The endpoint hosts multiple models: the request must name one as TargetModel.")
    return checked_target(given)


def _model_error(context: Context, variant: Variant, reply: Reply | None, reason: str) -> Response:
    status = reply.status if reply else 0
    text = reply.body.decode("utf-8", "replace") if reply else reason
    side = "client" if 400 <= status < 500 else "server"
    document = {
        "Message": f'Received {side} error ({status}) from primary with message "{text[:1024]}". '
        f"See log group {variant.group} in account {context.account} for more information.",
        "OriginalStatusCode": status or 500,
        "OriginalMessage": text[:2048],
        "LogStreamArn": f"arn:aws:logs:{context.region}:{context.account}:log-group:{variant.group}"
        f":log-stream:{variant.stream}",
    }
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "ModelError"}
    return 424, headers, json.dumps(document).encode()


def _traffic(context: Context, name: str) -> Traffic:
    store, key = context.store.store, ("traffic", *_key(context, name))
    with store.exclusive():
        if key not in store.live:
            store.live[key] = Traffic(context, name)
        return store.live[key]


# Start and shutdown of the server


def recover(platform: Platform, store: Store) -> None:
    """Restore the endpoints at the start of a server.

    Endpoints that were in service return to service. Interrupted creations fail, interrupted updates are
    rolled back, and interrupted deletions are completed. Returns immediately: containers of instances start
    in the background, containers of serverless variants with the first request. Requests wait until their
    container has started.
    """
    clean(platform, INSTANCES)
    for account, region in store.scopes():
        context = Context(platform, store.scoped(account, region))
        for record in context.store.all(ENDPOINT):
            name, status = record["EndpointName"], record["EndpointStatus"]
            if status == "Creating":
                _advance(context, name, "Failed", FailureReason=_ENDED.format("created"))
            elif status == "Deleting":
                _delete(context, name)
            elif status in ("InService", "Updating", "RollingBack"):
                fleet = Fleet(context, name, record["_Variants"])
                with store.exclusive():
                    store.live[_key(context, name)] = fleet
                if status != "InService":
                    reason = _ENDED.format("updated")
                    members = {"FailureReason": reason, "PendingDeploymentSummary": None}
                    _advance(context, name, "InService", **members)
                _in_background(_warm, context, name, fleet)


_ENDED = "InternalServerError: The local cloud ended while the endpoint was being {}."


def _warm(context: Context, name: str, fleet: Fleet) -> None:
    for variant in fleet.variants.values():
        if not variant.serverless:
            try:
                variant.start()
            except Exception as error:  # the next request retries and returns the error
                logger.warning("Could not start variant %s of endpoint %s: %s", variant.name, name, error)


def shutdown(store: Store) -> None:
    """Stop all containers and deliver their logs and metrics, at the shutdown of a server."""
    with store.exclusive():
        live = [value for value in store.live.values() if isinstance(value, Fleet | Traffic)]
        store.live = {key: value for key, value in store.live.items() if value not in live}
    threads = [threading.Thread(target=each.close) for each in live]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
