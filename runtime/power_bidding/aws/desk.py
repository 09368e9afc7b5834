"""Clients and adapters of the functions for models and bids, created once per execution environment."""

from __future__ import annotations

import functools
import json
from typing import Any

import boto3
from botocore.config import Config

from power_bidding.aws.bids_table import DynamoBids
from power_bidding.aws.bucket import S3Bucket
from power_bidding.aws.endpoint import EndpointModels, SageMakerEndpoints
from power_bidding.aws.environment import client, setting
from power_bidding.aws.hours_table import DynamoHours
from power_bidding.aws.market import Access, HttpMarket
from power_bidding.aws.observe import count
from power_bidding.aws.parameters import EndpointParameter, MarketClock, Parameters, switch
from power_bidding.aws.pipeline import DynamoWaits, SageMakerPipeline, StepFunctions
from power_bidding.aws.secret import JsonSecret
from power_bidding.aws.stores import DatasetReader, HistoryReader
from power_bidding.aws.tables import Table
from power_bidding.core.assets import (
    AssetSettings,
    MarketSettings,
    ModelSettings,
    assets_of,
    built,
    market_of,
)
from power_bidding.core.bid_ports import Desk, Switch
from power_bidding.core.waiting import WaitingRoom

INVOKE = Config(connect_timeout=3, read_timeout=65, retries={"mode": "standard", "total_max_attempts": 1})
"""Configuration of the client that invokes the endpoint. SageMaker's timeout is 60 seconds. The client does
not retry, because the state machine retries while an endpoint starts."""


def _object(name: str) -> dict[str, Any]:
    try:
        value = json.loads(setting(name))
    except ValueError as error:
        raise ValueError(f"the environment variable {name} must be a JSON object: {error}") from None
    return value


@functools.cache
def assets() -> dict[str, AssetSettings]:
    return assets_of(_object("ASSETS"))


@functools.cache
def market_settings() -> MarketSettings:
    return market_of(_object("MARKET"))


@functools.cache
def model_settings() -> ModelSettings:
    return built(ModelSettings, _object("MODEL"), "MODEL")


@functools.cache
def bids() -> DynamoBids:
    return DynamoBids(Table(client("dynamodb"), setting("BIDS_TABLE")))


@functools.cache
def history() -> HistoryReader:
    return HistoryReader(Table(client("dynamodb"), setting("HISTORY_TABLE")))


@functools.cache
def hours_table() -> DynamoHours:
    return DynamoHours(client("dynamodb"), setting("HOURS_TABLE"))


@functools.cache
def bucket() -> S3Bucket:
    return S3Bucket(client("s3"), setting("BUCKET"))


@functools.cache
def datasets() -> DatasetReader:
    return DatasetReader(hours_table(), bucket())


def parameter(variable: str) -> Parameters:
    return Parameters(client("ssm"), setting(variable))


@functools.cache
def endpoint_parameter() -> EndpointParameter:
    return EndpointParameter(parameter("ENDPOINT_PARAMETER"))


@functools.cache
def clock() -> MarketClock:
    return MarketClock(parameter("CLOCK_PARAMETER"))


def read_switch() -> Switch:
    return switch(parameter("SWITCH_PARAMETER"))


@functools.cache
def models() -> EndpointModels:
    runtime: Any = boto3.client("sagemaker-runtime", config=INVOKE)
    return EndpointModels(runtime, endpoint_parameter())


@functools.cache
def market() -> HttpMarket:
    secret = JsonSecret(client("secretsmanager"), setting("FEEDS_SECRET_ARN"))

    def access(again: bool) -> Access:
        given = secret.read(again=again).get("market") or {}
        return Access(given.get("url", ""), given.get("key", ""))

    return HttpMarket(access)


@functools.cache
def desk() -> Desk:
    return Desk(
        assets=assets(),
        settings=market_settings(),
        offers=bids(),
        history=history(),
        datasets=datasets(),
        market=market(),
        models=models(),
        clock=clock(),
        switch=read_switch,
        put=bucket().put,
        count=count,
    )


@functools.cache
def pipeline() -> SageMakerPipeline:
    return SageMakerPipeline(client("sagemaker"), setting("PIPELINE_NAME"))


@functools.cache
def waits() -> DynamoWaits:
    return DynamoWaits(Table(client("dynamodb"), setting("WAITS_TABLE")))


@functools.cache
def waiting_room() -> WaitingRoom:
    return WaitingRoom(waits(), pipeline(), StepFunctions(client("stepfunctions")))


@functools.cache
def endpoints() -> SageMakerEndpoints:
    role, hosting = setting("MODEL_ROLE_ARN"), _object("HOSTING")
    return SageMakerEndpoints(client("sagemaker"), client("logs"), setting("ENDPOINT_NAME"), role, hosting)
