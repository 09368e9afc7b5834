"""The API operations of MLflow apps, and requests to an app's MLflow REST API."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.sagemaker import artifacts, tags
from local.sagemaker.api import ApiError, Context, invalid, now, operation, page
from local.sagemaker.mlflow.server import MlflowServer, ServerError
from local.sagemaker.records import summary
from local.sagemaker.store import Record, Store

KIND = "mlflow-app"
HEADER = "x-sm-mlflow-app-arn"
"""Header of a REST request with the ARN of its MLflow app."""
VERSION = "3.17.2"
"""Version of MLflow in `local/sagemaker/mlflow/requirements.txt`."""
CALL = "sagemaker:CallMlflowAppApi"
"""IAM action that every request to the REST API needs."""


logger = logging.getLogger(__name__)


def _arn(context: Context, params: dict[str, Any]) -> str:
    return params["Arn"]


@operation("CreateMlflowApp", lambda context, params: context.arn(KIND, "*"), roles=("RoleArn",))
def create_app(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    _check_store(params["ArtifactStoreUri"])
    if any(app["Name"] == params["Name"] for app in context.store.all(KIND)):
        raise ApiError("ConflictException", f"An MLflow App with the name {params['Name']} already exists.")
    tags.check(context, params.get("Tags"))
    name, moment = f"app-{secrets.token_hex(6).upper()}", now()
    arn = context.arn(KIND, name)
    record = {key: value for key, value in params.items() if key != "Tags"} | {
        "Arn": arn,
        "MlflowVersion": VERSION,
        "Status": "Creating",
        "CreationTime": moment,
        "LastModifiedTime": moment,
    }
    context.store.add(KIND, name, {"ModelRegistrationMode": "AutoModelRegistrationDisabled"} | record)
    tags.attach(context, arn, params.get("Tags"))
    threading.Thread(target=_create, args=(context, arn), name=f"MLflow app {name}", daemon=True).start()
    return {"Arn": arn}


def _create(context: Context, arn: str) -> None:
    """Start the server of a new app and set the app's status."""
    try:
        _server(context, arn, _found(context, arn)).ask("GET", "/health", b"")
        status = "Created"
    except ServerError:
        logger.exception("Could not start the MLflow server of %s", arn)
        status = "CreateFailed"
    except ApiError:
        return  # the app was deleted meanwhile
    changes = {"Status": status, "LastModifiedTime": now()}
    context.store.change(KIND, _id(arn), lambda record: record | changes)


@operation("DescribeMlflowApp", _arn)
def describe_app(context: Context, params: dict[str, Any]) -> Record:
    return _found(context, params["Arn"])


@operation("UpdateMlflowApp", _arn)
def update_app(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    _found(context, params["Arn"])
    if "ArtifactStoreUri" in params:
        _check_store(params["ArtifactStoreUri"])
        _stop(context, params["Arn"])  # the next start uses the new artifact store
    changes = params | {"Status": "Updated", "LastModifiedTime": now()}
    context.store.change(KIND, _id(params["Arn"]), lambda record: record | changes)
    return {"Arn": params["Arn"]}


@operation("ListMlflowApps")
def list_apps(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = ("Name", "Status", "Arn", "CreationTime", "LastModifiedTime", "MlflowVersion")
    found = [
        app
        for app in context.store.all(KIND)
        if params.get("Status", app["Status"]) == app["Status"]
        and params.get("MlflowVersion", app["MlflowVersion"]) == app["MlflowVersion"]
    ]
    after, before = (params.get(f"Created{side}") for side in ("After", "Before"))
    times = {"CreationTimeAfter": after, "CreationTimeBefore": before}
    given = params | {name: value for name, value in times.items() if value is not None}
    return page(given, [summary(app, *members) for app in found], "Summaries")


@operation("DeleteMlflowApp", _arn)
def delete_app(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    arn = params["Arn"]
    _found(context, arn)
    _stop(context, arn)
    context.store.remove(KIND, _id(arn))
    tags.forget(context, arn)
    shutil.rmtree(_folder(context, arn), ignore_errors=True)
    return {"Arn": arn}


def invoke(
    context: Context,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    query: Mapping[str, Any],
) -> tuple[int, dict[str, str], bytes]:
    """Forward a request of MLflow's REST API to the app's server. Raises ApiError."""
    arn = headers.get(HEADER, "")
    app = _found(context, arn)
    if context.access_key is not None:
        context.platform.authorize(context.account, context.region, context.access_key, CALL, arn)
    target = path.partition("?")[0]
    if query:
        target += "?" + urllib.parse.urlencode(query, doseq=True)
    try:
        status, given, answer = _server(context, arn, app).ask(method, target, body)
    except ServerError as error:
        raise ApiError("ServiceUnavailable", str(error), 503) from error
    return status, {"content-type": given.get("Content-Type", "application/json")}, answer


def shutdown(store: Store) -> None:
    """Stop the MLflow servers at the shutdown of the cloud."""
    with store.exclusive():
        servers = [each for each in store.live.values() if isinstance(each, MlflowServer)]
    for server in servers:
        server.stop()


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]


def _found(context: Context, arn: str) -> Record:
    record = context.store.get(KIND, _id(arn))
    if record is None or record["Arn"] != arn:  # an app of another account or Region may have the same ID
        raise ApiError("ResourceNotFound", f"MLflow App {arn or '(none named)'} does not exist.")
    return record


def _check_store(uri: str) -> None:
    try:
        artifacts.split(uri)
    except ValueError as error:
        raise invalid(f"ArtifactStoreUri: {error}") from None


def _folder(context: Context, arn: str) -> Path:
    return context.platform.home / "mlflow" / _id(arn)


def _server(context: Context, arn: str, app: Record) -> MlflowServer:
    with context.store.store.exclusive():
        live = context.store.store.live
        key = (KIND, arn)
        if key not in live:
            live[key] = MlflowServer(context.platform, _folder(context, arn), app["ArtifactStoreUri"])
        return live[key]


def _stop(context: Context, arn: str) -> None:
    with context.store.store.exclusive():
        server = context.store.store.live.pop((KIND, arn), None)
    if server:
        server.stop()
