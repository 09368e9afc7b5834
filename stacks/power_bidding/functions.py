"""The Lambda functions, with their permissions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aws_cdk import Duration
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan import ArtifactBucket, Package, PythonFunction, allow, allow_key
from stacks.power_bidding.tables import BidTables

OBJECTS = "Objects are named when they are written; the folder is the grant."
GET, PUT, UPDATE, QUERY, SCAN, BATCH = (
    f"dynamodb:{verb}" for verb in ("GetItem", "PutItem", "UpdateItem", "Query", "Scan", "BatchGetItem")
)


@dataclass(frozen=True, kw_only=True)
class BidTask:
    """A function: its handler, description, and permissions on tables, folders and the secret."""

    handler: str
    does: str
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """DynamoDB actions by table name."""
    read: tuple[str, ...] = ()
    """Folders of the bucket to read from; `write` has those to write to."""
    write: tuple[str, ...] = ()
    secret: bool = False
    """Whether it reads the feeds' and the market's credentials."""
    seconds: int = 60
    memory_mb: int = 256


def _feed(name: str, what: str) -> BidTask:
    return BidTask(
        handler=f"power_bidding.feeds.app.{name}",
        does=f"Fetches {what} of an hour",
        read=("feeds",),
        write=("raw", "feeds"),
        secret=True,
        seconds=110,
    )


TASKS = {
    "MarketPrices": _feed("market_prices", "market prices"),
    "Load": _feed("load", "the demand forecast"),
    "Weather": _feed("weather", "the weather"),
    "PriceForecast": _feed("price_forecast", "an external price forecast"),
    "Consolidate": BidTask(
        handler="power_bidding.handlers.consolidate.handler",
        does="Makes one dataset of an hour's feeds, checked and without gaps",
        rows={"hours": (GET, BATCH, PUT), "history": (GET, UPDATE)},
        read=("feeds", "datasets"),
        write=("datasets", "hours"),
        seconds=110,
        memory_mb=512,
    ),
    "CheckModel": BidTask(
        handler="power_bidding.handlers.check_model.handler",
        does="Tells whether the model in service is current",
        rows={"history": (QUERY,), "bids": (GET, QUERY), "waits": (GET,)},
        memory_mb=512,
    ),
    "Retrain": BidTask(
        handler="power_bidding.handlers.retrain.handler",
        does="Starts the pipeline for a waiting state machine",
        rows={"history": (QUERY,), "waits": (GET, PUT, UPDATE)},
        read=("models",),
        write=("training",),
        seconds=110,
        memory_mb=512,
    ),
    "PipelineEvents": BidTask(
        handler="power_bidding.handlers.pipeline_events.handler",
        does="Tells the waiting state machine how its pipeline goes on",
        rows={"waits": (GET, UPDATE)},
    ),
    "Sweep": BidTask(
        handler="power_bidding.handlers.sweep.handler",
        does="Finds pipelines whose end no event told",
        rows={"waits": (GET, UPDATE, SCAN)},
    ),
    "MakeBids": BidTask(
        handler="power_bidding.handlers.make_bids.handler",
        does="Asks the model for an asset's offers, checks them and sends them",
        rows={"history": (QUERY,), "hours": (GET,), "bids": (GET, PUT, UPDATE, QUERY)},
        read=("datasets",),
        write=("bids",),
        secret=True,
        seconds=170,
        memory_mb=512,
    ),
    "FallBack": BidTask(
        handler="power_bidding.handlers.fall_back.handler",
        does="Finds an earlier offer for an hour, or says that there is none",
        rows={"history": (QUERY,), "hours": (GET,), "bids": (GET, PUT, UPDATE, QUERY)},
        read=("datasets",),
        write=("bids",),
        secret=True,
    ),
    "Release": BidTask(
        handler="power_bidding.handlers.release.handler",
        does="Sends offers that waited for approval",
        rows={"history": (QUERY,), "hours": (GET,), "bids": (GET, PUT, UPDATE, QUERY)},
        read=("datasets",),
        write=("bids",),
        secret=True,
    ),
    "Deploy": BidTask(
        handler="power_bidding.handlers.deploy.handler",
        does="Puts a model into service, tried first",
        rows={"history": (QUERY,), "hours": (GET,)},
        read=("datasets",),
        seconds=600,
        memory_mb=512,
    ),
    "RollBack": BidTask(
        handler="power_bidding.handlers.roll_back.handler", does="Puts the model before into service again"
    ),
    "ApiFunction": BidTask(
        handler="power_bidding.handlers.api.handler",
        does="Answers who reads offers",
        rows={"bids": (GET, QUERY), "hours": (BATCH,)},
        seconds=29,
    ),
    "ImportHistory": BidTask(
        handler="power_bidding.handlers.import_history.handler",
        does="Imports hours of one's own, before the first run",
        rows={"history": (PUT,)},
        read=("imports",),
        seconds=600,
        memory_mb=512,
    ),
}
"""The functions by construct id."""


class BidFunctions:
    """The functions in `TASKS`, created in `scope`, each with a role of least privilege.

    :param package: code, layers and dead-letter queue of all functions.
    :param variables: environment variables of all functions.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        package: Package,
        variables: Mapping[str, str],
        tables: BidTables,
        bucket: ArtifactBucket,
        secret: secretsmanager.ISecret,
    ) -> None:
        self.by_id: dict[str, PythonFunction] = {}
        """The functions by construct id."""
        for id, task in TASKS.items():
            function = self.by_id[id] = PythonFunction(
                scope,
                id,
                package=package,
                handler=task.handler,
                description=task.does,
                environment=variables,
                timeout=Duration.seconds(task.seconds),
                memory_mb=task.memory_mb,
            )
            for name, actions in task.rows.items():
                allow(function.role, *actions, on=[tables.by_name[name].table_arn])
            for action, folders in (("s3:GetObject", task.read), ("s3:PutObject", task.write)):
                if folders:
                    objects = [bucket.bucket.arn_for_objects(f"{folder}/*") for folder in folders]
                    allow(function.role, action, on=objects, because=OBJECTS)
            if task.read or task.write:
                allow(function.role, "s3:ListBucket", on=[bucket.bucket.bucket_arn])
            if task.secret:
                secret.grant_read(function.role)
            allow_key(function.role, package.key)
