"""CloudFront: HTTPS, API Gateway origins, cached errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from local.emulator import edge
from local.emulator.reach import Cloud, hook, replace, touch


@hook
def viewers_use_https(cloud: Cloud) -> None:
    """MiniStack redirects viewers to HTTPS, which the local cloud does not have: all traffic stays on the
    loopback interface."""

    @replace("services.cloudfront._check_viewer_protocol_policy", "behavior", "method", "viewer_is_https")
    def check(original: Callable, behavior: dict, method: str, viewer_is_https: bool, *rest: Any) -> Any:
        return original(behavior, method, True, *rest)


API_ORIGIN = re.compile(r"([a-z0-9]+)\.execute-api\.[a-z0-9-]+\.amazonaws\.com", re.IGNORECASE)


@hook
def distributions_reach_apis(cloud: Cloud) -> None:
    """API Gateway APIs have AWS host names, and MiniStack does not connect to origins with such names."""
    execute = touch(
        "app._handle_execute_api_request", "host", "path", "method", "headers", "body", "query_params"
    )
    to_send = touch(
        "services.cloudfront._origin_request_headers",
        "origin", "headers", "client_ip", "viewer_x_forwarded_for",
    )  # fmt: skip
    joined = touch("services.cloudfront._multidict_from_pairs", "pairs")

    @replace(
        "services.cloudfront._fetch_from_origin",
        "origin", "method", "uri", "query_string", "headers", "body",
        "viewer_is_https", "client_ip", "viewer_xff", "dist_arn",
    )  # fmt: skip
    async def fetch(
        original: Callable, origin: dict, method: str, uri: str, query: str, headers: dict, body: bytes,
        https: bool, client: str, forwarded_for: str, distribution: str,
    ) -> tuple:  # fmt: skip
        api = API_ORIGIN.fullmatch(origin["domain_name"])
        if api is None:
            return await original(
                origin, method, uri, query, headers, body, https, client, forwarded_for, distribution
            )
        # API Gateway finds an API by this header, and no API has the viewer's host name
        if "host" in headers:
            return 403, "Forbidden", {"content-type": "application/json"}, b'{"message":"Forbidden"}'
        host = f"{api[1]}.execute-api.localhost"
        sent = to_send(origin | {"domain_name": host}, headers, client, forwarded_for)
        raw = origin["origin_path"] + uri
        status, answered, content = await execute(
            host,
            unquote(raw),
            method,
            {name.lower(): value for name, value in sent.items()},
            body,
            parse_qs(query, keep_blank_values=True),
            raw_path=raw,
            raw_query_string=query,
        )
        return status, "", joined(answered.items()), content


@hook
def edges_keep_errors(cloud: Cloud) -> None:
    """MiniStack does not cache errors; CloudFront caches them for 10 s by default."""
    distributions = touch("services.cloudfront._distributions")
    element, find, text = (
        touch(f"services.cloudfront.{name}", *parameters)
        for name, parameters in {
            "_dist_config_el": ("dist",),
            "_find": ("el", "tag"),
            "_text": ("el", "tag", "default"),
        }.items()
    )
    kept = edge.ErrorCache()

    def minimum(arn: str, status: int) -> float:
        for distribution in distributions.values():
            errors = find(element(distribution), "CustomErrorResponses")
            listed = None if errors is None else find(errors, "Items")
            if distribution["ARN"] == arn and listed is not None:
                for error in listed:
                    if text(error, "ErrorCode", "") == str(status):
                        return float(text(error, "ErrorCachingMinTTL", "") or edge.DEFAULT_SECONDS)
        return edge.DEFAULT_SECONDS

    @replace(
        "services.cloudfront._fetch_from_origin",
        "origin", "method", "uri", "query_string", "headers", "body",
        "viewer_is_https", "client_ip", "viewer_xff", "dist_arn",
    )  # fmt: skip
    async def fetch(original: Callable, origin: dict, method: str, uri: str, *rest: Any) -> tuple:
        distribution, cached = rest[-1], method in ("GET", "HEAD")
        if cached and (found := kept.find(distribution, uri)):
            return found
        answer = await original(origin, method, uri, *rest)
        if cached and answer[0] >= 400:
            headers = {name.lower(): str(value) for name, value in answer[2].items()}
            duration = edge.seconds(answer[0], headers, minimum(distribution, answer[0]))
            kept.keep(distribution, uri, answer, duration)
        return answer
