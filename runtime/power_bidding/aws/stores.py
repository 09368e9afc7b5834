"""Read access to the table `History` and to the datasets that the table `Hours` refers to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from power_bidding.aws.bucket import S3Bucket
from power_bidding.aws.hours_table import DynamoHours
from power_bidding.aws.tables import Table
from power_bidding.core import datasets
from power_bidding.core.bid_ports import Cells

CELL = re.compile(r"[fgh]\d\d")


class HistoryReader:
    """Implementation of `bid_ports.HistoryTable`."""

    def __init__(self, table: Table):
        self.table = table

    def days(self, location: str, first: str, last: str) -> Mapping[str, Cells]:
        return {
            item["day"]: {name: value for name, value in item.items() if CELL.fullmatch(name)}
            for item in self.table.between(("location", location), ("day", first, last))
        }


class DatasetReader:
    """Implementation of `bid_ports.Datasets`."""

    def __init__(self, table: DynamoHours, bucket: S3Bucket):
        self.table, self.bucket = table, bucket

    def forward(self, hour: int, version: int | None) -> Mapping[str, Mapping[str, float]]:
        if version is None:
            row = self.table.row(hour)
            version = row.version if row else None
        body = self.bucket.get(datasets.key(hour, version)) if version is not None else None
        return datasets.decoded(body)["forward"] if body else {}
