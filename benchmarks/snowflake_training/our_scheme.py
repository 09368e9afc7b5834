"""Our scheme, with the image's code: a hash assigns rows to hosts, which read their rows as Arrow batches."""

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
    """Return the image's default hyperparameters, overridden by the arguments."""
    given = {"secret": "unused", "table": table, "target": target, "coordinates": coordinates}
    return Settings.read({name: str(value) for name, value in (given | chosen).items()})


def look(session: SnowflakeConnection, wanted: Settings) -> tuple[Table, Preparation]:
    """Return the table's metadata and preprocessing, which the first host determines for all hosts."""
    table = survey(session, wanted.table, wanted.target)
    return table, prepare(session, table, wanted)


def part(
    session: SnowflakeConnection, table: Table, preparation: Preparation, host: int, hosts: int
) -> Iterable[Batch]:
    """Return the rows of a host."""
    return pull(session, table, preparation.kinds, preparation.split, host, hosts)


def share(batches: Iterable[Batch], preparation: Preparation, folder: Path) -> Share:
    """Preprocess a host's rows, split them for training and validation, and write them to `folder`."""
    return collect(batches, preparation, folder)
