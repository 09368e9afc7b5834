from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aws_cdk import ArnFormat, Duration, Fn, Stack
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from groundplan.log_group import log_group
from groundplan.permissions import allow
from groundplan.python_function import PythonFunction

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
LOGGED = {
    "time": "$context.requestTime",
    "request": "$context.requestId",
    "route": "$context.routeKey",
    "status": "$context.status",
    "milliseconds": "$context.responseLatency",
    "user": "$context.authorizer.claims.sub",
    "reason": "$context.authorizer.error",
    "failure": "$context.integrationErrorMessage",
}
"""Fields of the access log: caller, route and status, but no IP address and no query string."""


class HttpApi(Construct):
    """An HTTP API for programs with a role in the account. One function serves all routes.

    Callers sign their requests with the credentials of a role that `grant_call` allowed to call the API.

    :param document: a JSON file with an OpenAPI document. Its paths and methods are the routes.
    :param rate: maximum requests per second of all callers together; also the burst limit. Default: 50.
    :param log_retention: retention of the access log. Default: one month.
    :param key: encrypts the log. Default: CloudWatch Logs' own encryption.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        document: Path,
        rate: int = 50,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._authorization = {"authorization_type": "AWS_IAM"}
        stack = Stack.of(self)
        described: Mapping[str, Any] = json.loads(document.read_text())
        self._routes = [
            (method.upper(), path)
            for path, item in described["paths"].items()
            for method in METHODS
            if method in item
        ]
        self.api = apigateway.CfnApi(
            self,
            "Api",
            name=f"{stack.stack_name}-api",
            protocol_type="HTTP",
            description=described["info"]["title"],
        )
        """The API Gateway HTTP API."""
        self.domain = f"{self.api.ref}.execute-api.{stack.region}.{stack.url_suffix}"
        """The API's host name, without a scheme."""
        log = log_group(self, "Log", retention=log_retention, key=key)
        apigateway.CfnStage(
            self,
            "Stage",
            api_id=self.api.ref,
            stage_name="$default",
            auto_deploy=True,
            default_route_settings=apigateway.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=rate, throttling_burst_limit=rate, detailed_metrics_enabled=True
            ),
            access_log_settings=apigateway.CfnStage.AccessLogSettingsProperty(
                destination_arn=log.log_group_arn, format=json.dumps(LOGGED)
            ),
        )

    @property
    def url(self) -> str:
        """The API's address `https://HOST`, without a trailing slash."""
        return self.api.attr_api_endpoint

    def grant_call(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` call every route."""
        arn = Stack.of(self).format_arn(
            service="execute-api",
            resource=self.api.ref,
            resource_name="*",
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )
        because = "A route's ARN has its stage, method and path."
        return allow(grantee, "execute-api:Invoke", on=[arn], because=because)

    def serve(self, function: PythonFunction) -> None:
        """Serve every route with `function`.

        The function is not an argument of the constructor, because the function may depend on a resource
        that depends on the API, such as a page.
        """
        stack = Stack.of(self)
        integration = apigateway.CfnIntegration(
            self,
            "Integration",
            api_id=self.api.ref,
            integration_type="AWS_PROXY",
            integration_uri=function.function.function_arn,
            payload_format_version="2.0",
            timeout_in_millis=30_000,
        )
        for method, path in self._routes:
            apigateway.CfnRoute(
                self,
                f"{method}{path}",
                api_id=self.api.ref,
                route_key=f"{method} {path}",
                target=Fn.join("/", ["integrations", integration.ref]),
                **self._authorization,
            )
        function.function.add_permission(
            f"{self.node.id}Calls",
            principal=iam.ServicePrincipal("apigateway.amazonaws.com"),
            source_arn=stack.format_arn(
                service="execute-api",
                resource=self.api.ref,
                resource_name="*/*",
                arn_format=ArnFormat.SLASH_RESOURCE_NAME,
            ),
        )

    def metric(self, name: str, *, statistic: str = "Sum") -> cloudwatch.Metric:
        """Return one of the API's CloudWatch metrics, such as `Count` or `Latency`, over five minutes."""
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            statistic=statistic,
            period=Duration.minutes(5),
            dimensions_map={"ApiId": self.api.ref},
        )

    def metric_server_errors(self) -> cloudwatch.Metric:
        """Return the number of responses with a 5xx status in five minutes."""
        return self.metric("5xx")
