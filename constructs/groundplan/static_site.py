from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import CustomResource, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from groundplan.lambdas import code_of
from groundplan.permissions import acknowledge, allow
from groundplan.python_function import Package, PythonFunction
from groundplan.user_api import UserApi

CACHED_ERRORS = (400, 403, 404, 405, 414, 500, 501, 502, 503, 504)
"""HTTP statuses of the errors that CloudFront may cache for a configurable time."""


TIMEOUT = Duration.minutes(5)
"""Timeout for copying the files of a site."""


class StaticSite(Construct):
    """A private bucket behind CloudFront, with an API under `/api/` of the same web origin.

    `SiteFiles` uploads the files. Page and API have the same origin, so the API needs no CORS.

    :param api: the API that serves `/api/*`. Its responses are not cached.
    """

    def __init__(self, scope: Construct, id: str, *, api: UserApi) -> None:
        super().__init__(scope, id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=RemovalPolicy.DESTROY,
        )
        """The bucket of the site's files."""
        acknowledge(
            self.bucket,
            {"AwsSolutions-S1": "CloudFront alone reads it, and what it holds all may see."},
        )
        headers = cloudfront.ResponseHeadersPolicy(
            self,
            "Headers",
            security_headers_behavior=cloudfront.ResponseSecurityHeadersBehavior(
                strict_transport_security=cloudfront.ResponseHeadersStrictTransportSecurity(
                    access_control_max_age=Duration.days(365), include_subdomains=True, override=True
                ),
                content_type_options=cloudfront.ResponseHeadersContentTypeOptions(override=True),
                frame_options=cloudfront.ResponseHeadersFrameOptions(
                    frame_option=cloudfront.HeadersFrameOption.DENY, override=True
                ),
                referrer_policy=cloudfront.ResponseHeadersReferrerPolicy(
                    referrer_policy=cloudfront.HeadersReferrerPolicy.NO_REFERRER, override=True
                ),
            ),
        )
        self.distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment=f"{self.node.path}: the page, and its API under /api/",
            default_root_object="index.html",
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.S3BucketOrigin.with_origin_access_control(self.bucket),
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
                cache_policy=cloudfront.CachePolicy.CACHING_OPTIMIZED,
                response_headers_policy=headers,
                compress=True,
            ),
            additional_behaviors={
                "/api/*": cloudfront.BehaviorOptions(
                    origin=origins.HttpOrigin(
                        api.domain,
                        protocol_policy=cloudfront.OriginProtocolPolicy.HTTPS_ONLY,
                        origin_ssl_protocols=[cloudfront.OriginSslPolicy.TLS_V1_2],
                    ),
                    viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
                    allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
                    cache_policy=cloudfront.CachePolicy.CACHING_DISABLED,
                    # passes the caller's token, but not the page's Host header, which the API rejects
                    origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
                    response_headers_policy=headers,
                )
            },
            # By default CloudFront caches errors for 10 s despite the origin's headers, and returns them to
            # all users: the cache key does not contain the Authorization header
            error_responses=[
                cloudfront.ErrorResponse(http_status=status, ttl=Duration.seconds(0))
                for status in CACHED_ERRORS
            ],
            price_class=cloudfront.PriceClass.PRICE_CLASS_100,
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
        )
        """The CloudFront distribution."""
        acknowledge(
            self.distribution,
            {
                "AwsSolutions-CFR1": "Users may be anywhere.",
                "AwsSolutions-CFR2": "Every call wants a token and is throttled; a web ACL is extra.",
                "AwsSolutions-CFR3": "The API writes an access log; about the page there is nothing to tell.",
                "AwsSolutions-CFR4": "The certificate of CloudFront's own domain allows older protocols;"
                " a custom domain has its own certificate.",
            },
        )
        self.url = f"https://{self.distribution.distribution_domain_name}"
        """URL of the site, which is also the origin of the page's requests."""


class SiteFiles(Construct):
    """Files of a site: uploaded to its bucket at a deployment, deleted when the stack is deleted.

    The CDK's `BucketDeployment` adds the AWS CLI as a layer and a role that may read every asset, which is
    too much for the few files of a page.

    :param site: the site whose bucket gets the files.
    :param source: the files, as an asset of a folder with an `index.html`.
    :param config: settings of the page, which are uploaded as `config.json`.
    :param storage: the bucket that the page's presigned URLs refer to. The web origins of these URLs replace
        `{{storage}}` in HTML files.
    :param publisher: the function that uploads the files, with the code `SiteFiles.code()` and the handler
        `handler.handler`. Default: a new one.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        site: StaticSite,
        source: s3_assets.Asset,
        config: Mapping[str, Any],
        storage: s3.IBucket,
        publisher: PythonFunction | None = None,
    ) -> None:
        super().__init__(scope, id)
        publisher = publisher or PythonFunction(
            self,
            "Publisher",
            package=Package(code=self.code()),
            handler="handler.handler",
            description="Puts the site's files into its bucket, with the stack",
            timeout=TIMEOUT,
        )
        role, bucket = publisher.role, site.bucket
        allow(role, "s3:GetObject", on=[source.bucket.arn_for_objects(source.s3_object_key)])
        allow(role, "s3:ListBucket", "s3:ListBucketVersions", on=[bucket.bucket_arn])
        allow(
            role,
            "s3:PutObject",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
            on=[bucket.arn_for_objects("*")],
            because="The bucket holds the site's files and nothing else.",
        )
        resource = CustomResource(
            self,
            "Resource",
            resource_type="Custom::SiteFiles",
            service_token=publisher.function.function_arn,
            service_timeout=TIMEOUT,
            properties={
                "SourceBucket": source.s3_bucket_name,
                "SourceKey": source.s3_object_key,
                "Bucket": bucket.bucket_name,
                "StorageBucket": storage.bucket_name,
                "Config": Stack.of(self).to_json_string(dict(config)),
            },
        )
        # created before the custom resource and deleted after it, so that the function has its permissions at
        # each invocation
        resource.node.add_dependency(bucket, publisher)

    @staticmethod
    def code() -> lambda_.Code:
        """Return the code of a publisher. Its handler is `handler.handler`."""
        return code_of("site_files")
