from __future__ import annotations

from pathlib import Path

from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from groundplan.http_api import HttpApi
from groundplan.users import Users


class UserApi(HttpApi):
    """An HTTP API for signed-in users: every route requires a token of the user pool.

    :param document: a JSON file with an OpenAPI document. Its paths and methods are the routes.
    :param users: the user pool whose tokens are accepted.
    :param rate: maximum requests per second of all users together; also the burst limit. Default: 50.
    :param log_retention: retention of the access log. Default: one month.
    :param key: encrypts the log. Default: CloudWatch Logs' own encryption.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        document: Path,
        users: Users,
        rate: int = 50,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id, document=document, rate=rate, log_retention=log_retention, key=key)
        authorizer = apigateway.CfnAuthorizer(
            self,
            "Authorizer",
            api_id=self.api.ref,
            name="users",
            authorizer_type="JWT",
            identity_source=["$request.header.Authorization"],
            jwt_configuration=apigateway.CfnAuthorizer.JWTConfigurationProperty(
                issuer=f"https://{users.pool.user_pool_provider_name}",
                audience=[users.client.user_pool_client_id],
            ),
        )
        self._authorization = {"authorization_type": "JWT", "authorizer_id": authorizer.ref}
