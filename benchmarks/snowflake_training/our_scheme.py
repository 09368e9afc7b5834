"""Our scheme, by the image's own code: the table dealt out by a hash, Arrow into XGBoost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snowflake.connector import SnowflakeConnection

from snowflake_xgboost.dataset import Share, collect
from snowflake_xgboost.preparation import Preparation, prepare
from snowflake_xgboost.settings import Settings
from snowflake_xgboost.source import Batch, pull, survey
from snowflake_xgboost.table import Table


def settings(table: str, target: str, coordinates: str = "", **chosen: Any) -> Settings:
    """The image's defaults, but for what is chosen here."""
    given = {"secret": "unused", "table": table, "target": target, "coordinates": coordinates}
    return Settings.read({name: str(value) for name, value in (given | chosen).items()})


def look(session: SnowflakeConnection, wanted: Settings) -> tuple[Table, Preparation]:
    """What the first host decides for all: how the table is read, and how prepared."""
    table = survey(session, wanted.table, wanted.target)
    return table, prepare(session, table, wanted)


def part(
    session: SnowflakeConnection, table: Table, preparation: Preparation, host: int, hosts: int
) -> Iterable[Batch]:
    """One host's rows."""
    return pull(session, table, preparation.kinds, preparation.split, host, hosts)


def share(batches: Iterable[Batch], preparation: Preparation, folder: Path) -> Share:
    """Rows prepared and split into train and validation, on disk in `folder`."""
    return collect(batches, preparation, folder)
