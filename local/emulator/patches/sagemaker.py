"""SageMaker: its API and its CloudFormation types, which MiniStack does not have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from local.emulator import cloudformation as cfn
from local.emulator.ministack import here
from local.emulator.reach import Cloud, hook, put, replace, touch
from local.sagemaker import api, http
from local.sagemaker.api import ApiError


@hook
def sagemaker_service(cloud: Cloud) -> None:
    """MiniStack has no SageMaker. This hook routes requests to `local.sagemaker`."""
    run = touch("core.concurrency.run_reentrant", "fn")
    access_key_of = touch("core.router.extract_access_key_id", "headers", "query_params")

    async def handle(method: str, path: str, headers: dict, body: bytes, query: dict) -> tuple:
        account, region = here()
        caller = access_key_of(headers, query) or ""
        # In a separate thread: the request may wait for a container, which in turn calls this server
        answer = await run(cloud.sagemaker, method, path, headers, body, query, account, region, caller)
        if path.startswith(("/endpoints/", http.MLFLOW)):
            # Lower-case names: MiniStack would overwrite `Content-Type` with the SageMaker API's content type
            status, given, content = answer
            return status, {name.lower(): value for name, value in given.items()}, content
        return answer

    put("app.SERVICE_HANDLERS", "sagemaker", value=handle)
    put("core.router.SERVICE_PATTERNS", "sagemaker", value={"target_prefixes": ["SageMaker."]})


@hook
def sagemaker_resource_types(cloud: Cloud) -> None:
    """MiniStack refuses SageMaker's resource types. With this hook, `local.sagemaker` manages them."""
    provisioners = "services.cloudformation.provisioners"
    generated = touch(f"{provisioners}._physical_name", "stack_name", "logical_id")

    def call(operation: str, params: dict) -> dict:
        request = api.with_tokens(operation, params)
        return api.call(cloud.context(*here(), None), operation, request)

    def errors_said(function: Callable) -> Callable:
        @functools.wraps(function)
        def said(*args: Any) -> Any:
            try:
                return function(*args)
            except ApiError as error:
                raise ValueError(
                    f"{error.message} (Service: SageMaker, Status Code: {error.status}, "
                    f"Error Code: {error.code})"
                ) from error

        return said

    for type_name, kind in cfn.TYPES.items():

        def create(logical_id: str, props: dict, stack: str, kind: cfn.Type = kind) -> tuple:
            name = props.get(kind.named_by) or generated(stack, logical_id, max_len=kind.name_length)
            return kind.create(call, name, props)

        def update(ref: str, old: dict, new: dict, stack: str, kind: cfn.Type = kind) -> tuple:
            return kind.update(call, kind.name_of(ref), old, new)

        def delete(ref: str, props: dict, kind: cfn.Type = kind) -> None:
            kind.delete(call, kind.name_of(ref))

        operations = {"create": create, "update": update, "delete": delete}
        handlers = {name: errors_said(operation) for name, operation in operations.items()}
        put(f"{provisioners}._RESOURCE_HANDLERS", type_name, value=handlers)
        put(f"{provisioners}._REPLACING_PROPERTIES", type_name, value=kind.replacing)
        put(f"{provisioners}._CUSTOM_NAME_REPLACEMENT", type_name, value={"name": kind.named_by})
        put(f"{provisioners}._STACK_TAG_PROPERTY", type_name, value=("Tags", "list"))

    @replace("services.cloudformation.stacks._runs_on_worker_thread", "resource_type")
    def on_worker_thread(original: Callable, resource_type: str) -> bool:
        # Requests of an endpoint's container must be answered while the endpoint is created
        return resource_type in cfn.TYPES or original(resource_type)
