"""The known sample's scheme: every host draws its own random share of the table.

What aws-samples/amazon-sagemaker-w-snowflake-as-datasource does on each of its training instances,
so that it can be measured beside ours: `SELECT * FROM table SAMPLE (round(100 / hosts))`, the rows
fetched as tuples into a pandas DataFrame, rows with a blank dropped, and a random train and
validation split that the host makes by itself. Then XGBoost trains over all hosts together.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import xgboost
from snowflake.connector import SnowflakeConnection

VALIDATION_FRACTION = 0.25
"""Of its rows each host keeps so many from training: the `test_size` that the known sample sets."""

warnings.filterwarnings("ignore", message="pandas only supports SQLAlchemy")


def draw(session: SnowflakeConnection, table: str, hosts: int, seed: int | None = None) -> pd.DataFrame:
    """One host's rows of `table`, blanks and all.

    The known sample gives no seed and draws anew each time; `seed` makes the same draw repeatable.
    """
    percent = round(100 / hosts)
    query = f"SELECT * FROM {table} SAMPLE ({percent})" + ("" if seed is None else f" SEED ({seed})")
    return pd.read_sql(query, session)  # type: ignore[arg-type]


def seed(repetition: int, host: int) -> int:
    """Draws by different hosts are independent: each has a seed of its own."""
    return 1_000 * repetition + host


def split(drawn: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The host's own (train, validation) rows: those without a blank, dealt at random.

    `fraction` of them, 0 to 1, go to validation.
    """
    whole = drawn.dropna()
    order = np.random.default_rng(seed).permutation(len(whole))
    held = round(fraction * len(whole))
    return whole.iloc[order[held:]], whole.iloc[order[:held]]


def matrix(rows: pd.DataFrame, target: str) -> xgboost.DMatrix:
    """What XGBoost trains on: every column of numbers but the target."""
    features = rows.drop(columns=target).select_dtypes("number")
    return xgboost.DMatrix(features.values, rows[target].values)
