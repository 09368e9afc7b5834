"""Keep short notes in a bucket."""

from __future__ import annotations

from pathlib import Path

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_lambda as lambda_
from constructs import Construct
from settings.notes import Notes

from groundplan import ArtifactBucket, Package, PythonFunction, allow
from stacks.shared import key_of, retention

RUNTIME = Path(__file__).resolve().parents[2] / "runtime" / "notes"


class NotesStack(Stack):
    def __init__(self, scope: Construct, id: str, *, env_name: str, settings: Notes) -> None:
        super().__init__(scope, id, description="Groundplan: short notes, kept in a bucket")
        key = key_of(self, settings, "notes")
        bucket = ArtifactBucket(self, "Notes", key=key, retain=settings.retain)
        keep_logs = retention(settings.log_retention_days)
        function = PythonFunction(
            self,
            "Keeper",
            package=Package(
                code=lambda_.Code.from_asset(str(RUNTIME), exclude=["**/__pycache__"]),
                log_retention=keep_logs,
                key=key,
            ),
            handler="handler.handler",
            description="Keeps a note",
            environment={"BUCKET": bucket.bucket.bucket_name, "LONGEST": str(settings.longest)},
        )
        allow(
            function.role,
            "s3:PutObject",
            on=[bucket.bucket.arn_for_objects("notes/*")],
            because="Notes are named when they are written; the folder is the grant.",
        )
        CfnOutput(self, "BucketName", value=bucket.bucket.bucket_name)
        CfnOutput(self, "FunctionName", value=function.function.function_name)
