"""CAISO's OASIS API, operation SingleZip: returns a zip with a CSV file, or with an XML error."""

from __future__ import annotations

import csv
import datetime
import io
import zipfile
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from local.feeds import times
from local.feeds.world import World

PATH = "/oasisapi/SingleZip"
MOST_DAYS = 31
PRICE_COLUMNS = (
    *(
        "INTERVALSTARTTIME_GMT",
        "INTERVALENDTIME_GMT",
        "OPR_DT",
        "OPR_HR",
        "OPR_INTERVAL",
        "NODE_ID_XML",
        "NODE_ID",
    ),
    *("NODE", "MARKET_RUN_ID", "LMP_TYPE", "XML_DATA_ITEM", "PNODE_RESMRID", "GRP_TYPE", "POS"),
)
LOAD_COLUMNS = (
    *("INTERVALSTARTTIME_GMT", "INTERVALENDTIME_GMT", "LOAD_TYPE", "OPR_DT", "OPR_HR", "OPR_INTERVAL"),
    *("MARKET_RUN_ID", "TAC_AREA_NAME", "LABEL", "XML_DATA_ITEM", "POS", "MW", "EXECUTION_TYPE", "GROUP"),
)
ERROR = """<?xml version="1.0" encoding="UTF-8"?>
<m:OASISReport xmlns:m="http://www.caiso.com/soa/OASISReport_v1.xsd">
<m:MessagePayload><m:RTO><m:name>CAISO</m:name>
<m:ERROR><m:ERR_CODE>{code}</m:ERR_CODE><m:ERR_DESC>{text}</m:ERR_DESC></m:ERROR>
</m:RTO></m:MessagePayload></m:OASISReport>
"""
NO_DATA = ("1000", "No data returned for the specified selection")
BAD_TIME = ("1002", "Invalid datetime format, please use valid datetime format")
TOO_LONG = ("1004", "Data can be requested for period of 31 days only")
UNKNOWN = ("1005", "Report name does not exist, please use valid report name")
Row = dict[str, str]


def feed_of(query: Mapping[str, str]) -> str:
    return "load" if query.get("queryname") == "SLD_FCST" else "market_prices"


def answer(world: World, query: Mapping[str, str], now: float, *, doubled: bool) -> bytes:
    """Return the zip for one request.

    :param doubled: whether every row occurs twice
    """
    try:
        first, end = _moment(query["startdatetime"]), _moment(query["enddatetime"])
    except (KeyError, ValueError):
        return _error(*BAD_TIME)
    if end - first > MOST_DAYS * 24:
        return _error(*TOO_LONG)
    reports = {
        ("PRC_LMP", "DAM"): _day_ahead,
        ("PRC_INTVL_LMP", "RTM"): _real_time,
        ("SLD_FCST", "2DA"): _load,
    }
    report = reports.get((query.get("queryname", ""), query.get("market_run_id", "")))
    if report is None:
        return _error(*UNKNOWN)
    rows = report(world, query, first, end, now)
    if not rows:
        return _error(*NO_DATA)
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows + (rows[::-1] if doubled else []))
    return _zip(f"{query['startdatetime'][:8]}_{query['queryname']}_v1.csv", lines.getvalue())


def _moment(text: str) -> int:
    """Parse a time such as `20190219T08:00-0000`. Return hours since 1970."""
    return int(datetime.datetime.strptime(text, "%Y%m%dT%H:%M%z").timestamp()) // 3_600


def _times(hour: float, minutes: int, zone: ZoneInfo) -> Row:
    begin, end = times.moment(hour), times.moment(hour + minutes / 60)
    day = times.day_of(hour, zone)
    return {
        "INTERVALSTARTTIME_GMT": begin.strftime("%Y-%m-%dT%H:%M:%S-00:00"),
        "INTERVALENDTIME_GMT": end.strftime("%Y-%m-%dT%H:%M:%S-00:00"),
        "OPR_DT": day.isoformat(),
        "OPR_HR": str(int(hour // 1) - times.hours_of(day, zone)[0] + 1),  # up to 25 when clocks go back
        "OPR_INTERVAL": "0" if minutes == 60 else str(round(hour % 1 * 60) // minutes + 1),
    }


def _price_rows(
    world: World, node: str, run: str, values: list[tuple[float, float, int]], column: str
) -> list[Row]:
    rows = []
    for position, part in enumerate(("LMP", "MCE")):
        for hour, price, minutes in values:
            row = dict.fromkeys(PRICE_COLUMNS, "") | _times(hour, minutes, world.zone)
            row |= {
                "NODE_ID_XML": node,
                "NODE_ID": node,
                "NODE": node,
                "MARKET_RUN_ID": run,
                "LMP_TYPE": part,
            }
            item = "LMP_PRC" if part == "LMP" else "LMP_ENE_PRC"
            row |= {
                "XML_DATA_ITEM": item,
                "PNODE_RESMRID": node,
                "GRP_TYPE": "ALL_APNODES",
                "POS": str(position),
            }
            rows.append(row | {column: repr(price), "GROUP": str(position + 1)})
    return rows


def _nodes(world: World, query: Mapping[str, str]) -> list[str]:
    asked = query.get("node", "").split(",")
    return [node for node in asked if node in world.history.locations]


def _day_ahead(world: World, query: Mapping[str, str], first: int, end: int, now: float) -> list[Row]:
    rows = []
    for node in _nodes(world, query):
        found = world.series(f"price:{node}", first, end, now)
        values = [(float(hour), value, 60) for hour, value in found if value is not None]
        rows += _price_rows(world, node, "DAM", values, "MW")
    return rows


def _real_time(world: World, query: Mapping[str, str], first: int, end: int, now: float) -> list[Row]:
    rows = []
    for node in _nodes(world, query):
        found = world.series(f"real_time:{node}", first, end, now)
        values = [
            (hour + five / 12, value, 5) for hour, value in found if value is not None for five in range(12)
        ]
        rows += _price_rows(world, node, "RTM", values, "VALUE")
    return rows


def _load(world: World, query: Mapping[str, str], first: int, end: int, now: float) -> list[Row]:
    rows = []
    for hour, value in world.series("load", first, end, now):
        if value is None:
            continue
        row = dict.fromkeys(LOAD_COLUMNS, "") | _times(hour, 60, world.zone)
        row |= {"LOAD_TYPE": "0", "MARKET_RUN_ID": "2DA", "TAC_AREA_NAME": "CA ISO-TAC", "MW": repr(value)}
        row |= {"LABEL": "Demand Forecast 2-Day Ahead", "XML_DATA_ITEM": "SYS_FCST_2DA_MW", "POS": "1"}
        rows.append(row | {"EXECUTION_TYPE": "2DA", "GROUP": "1"})
    return rows


def _error(code: str, text: str) -> bytes:
    return _zip("INVALID_REQUEST.xml", ERROR.format(code=code, text=text))


def _zip(name: str, content: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
