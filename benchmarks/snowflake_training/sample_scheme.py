"""The scheme of the AWS sample: every host draws a random share of the table.

The AWS sample is aws-samples/amazon-sagemaker-w-snowflake-as-datasource. Each of its training instances runs
`SELECT * FROM table SAMPLE (round(100 / hosts))`, fetches the rows as tuples into a pandas DataFrame, drops
rows with a missing value, and splits the others randomly into training and validation rows. Then XGBoost
trains on all hosts together. This module does the same, for a comparison with our scheme.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import xgboost
from snowflake.connector import SnowflakeConnection

VALIDATION_FRACTION = 0.25
"""Share of a host's rows that are used for validation: `test_size` in the AWS sample."""

warnings.filterwarnings("ignore", message="pandas only supports SQLAlchemy")


def draw(session: SnowflakeConnection, table: str, hosts: int, seed: int | None = None) -> pd.DataFrame:
    """Return a host's rows of `table`, including rows with missing values.

    The AWS sample sets no seed, so each of its draws differs. With `seed`, the same draw can be repeated.
    """
    percent = round(100 / hosts)
    query = f"SELECT * FROM {table} SAMPLE ({percent})" + ("" if seed is None else f" SEED ({seed})")
    return pd.read_sql(query, session)  # type: ignore[arg-type]


def seed(repetition: int, host: int) -> int:
    """Return a host's seed. The hosts have different seeds, so their draws are independent."""
    return 1_000 * repetition + host


def split(drawn: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a host's rows without missing values randomly; return (training rows, validation rows).

    `fraction`, from 0 to 1, is the share of validation rows.
    """
    whole = drawn.dropna()
    order = np.random.default_rng(seed).permutation(len(whole))
    held = round(fraction * len(whole))
    return whole.iloc[order[held:]], whole.iloc[order[:held]]


def matrix(rows: pd.DataFrame, target: str) -> xgboost.DMatrix:
    """Return the matrix for XGBoost: all columns of numbers except the target as features."""
    features = rows.drop(columns=target).select_dtypes("number")
    return xgboost.DMatrix(features.values, rows[target].values)
