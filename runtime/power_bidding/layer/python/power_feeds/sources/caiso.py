"""CAISO's OASIS: `SingleZip`, which answers with a zip file.

Specification: "Interface Specification for OASIS" 5.1.8, California ISO, 2019-02-15; the columns are those of
current files. One request covers at most 31 days. Errors have status 200 and are an XML document in the zip
file. Code 1000 is "No data returned for the specified selection", both for data that is not published yet and
for data that is no longer kept (39 months). No credentials are required. The data's terms:
https://www.caiso.com/pages/privacy-and-terms-of-use.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from power_feeds import hours
from power_feeds.errors import FeedDownError, FeedMalformedError
from power_feeds.http import Client
from power_feeds.rows import series_name
from power_feeds.sources.fetched import Fetched, means, number

KEPT_MONTHS = 39
LOAD_AREA = "CA ISO-TAC"
"""CAISO's whole area."""
LOAD_RUN = "2DA"
"""The forecast published two days ahead, at 21:10 Pacific: it has one version, known before the day-ahead
deadline."""
INTERVALS = 12
"""Number of 5-minute intervals in an hour of the real-time market."""
MOST_FILE_BYTES = 64 * 2**20
NO_DATA = "1000"
UNREADABLE = (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError)
"""Errors that `zipfile` raises for damaged or encrypted archives."""
THROTTLED_WORDS = ("too many", "acceptable use", "timed out")
_HOURS_A_MONTH = 365.25 * 24 / 12


@dataclass
class Caiso:
    """`url` is the address of SingleZip, such as https://oasis.caiso.com/oasisapi/SingleZip."""

    client: Client
    url: str

    def prices(self, locations: Sequence[str], start: int, end: int, now: int) -> Fetched:
        """Return `price` and, for hours before `now`, `real_time` of all locations for [`start`, `end`).

        Raises `FeedDownError`, `FeedRefusedError` or `FeedMalformedError`.
        """
        found = Fetched()
        nodes = {"node": ",".join(locations), "version": "12"}
        for row in self._rows(found, "PRC_LMP", start, end, nodes | {"market_run_id": "DAM"}):
            if row.get("LMP_TYPE") == "LMP":
                found.add(series_name("price", _node(row)), _hour(row), _value(row))
        intervals: dict[tuple[str, int], dict[object, float | None]] = {}
        for row in self._rows(found, "PRC_INTVL_LMP", start, now, nodes | {"market_run_id": "RTM"}):
            if row.get("LMP_TYPE") == "LMP":
                name = series_name("real_time", _node(row))
                intervals.setdefault((name, _hour(row)), {})[row["INTERVALSTARTTIME_GMT"]] = _value(row)
        means(intervals, INTERVALS, found)
        return found

    def load(self, start: int, end: int, now: int) -> Fetched:
        """Return the load forecast. Errors as in `prices`."""
        found = Fetched()
        for row in self._rows(found, "SLD_FCST", start, end, {"version": "1", "market_run_id": LOAD_RUN}):
            if row.get("TAC_AREA_NAME") == LOAD_AREA:
                found.add("load", _hour(row), _value(row))
        return found

    def _rows(
        self, found: Fetched, query: str, start: int, end: int, options: dict[str, str]
    ) -> list[dict[str, str]]:
        if end <= start:
            return []
        asked = {"resultformat": "6", "queryname": query, **options}
        asked |= {"startdatetime": _moment(start), "enddatetime": _moment(end)}
        answer = self.client.get(self.url, asked, {})
        found.keep("zip", answer)
        found.kept_from = int(answer.clock - KEPT_MONTHS * _HOURS_A_MONTH)
        rows: list[dict[str, str]] = []
        for name, content in _members(answer.body):
            if name.lower().endswith(".xml"):
                _check_error(content)
            else:
                rows += _table(content)
        return rows


def _moment(hour: int) -> str:
    return hours.moment(hour).strftime("%Y%m%dT%H:%M-0000")


def _members(body: bytes) -> list[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST_FILE_BYTES:
                raise FeedMalformedError(f"the archive must unpack to at most {MOST_FILE_BYTES} bytes")
            return [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (*UNREADABLE, zlib.error) as error:
        raise FeedMalformedError("the response is not a complete zip file") from error


def _check_error(content: bytes) -> None:
    """Raise the error in an OASIS error document: `FeedDownError` for throttling, else `FeedMalformedError`.

    Returns if the error is only "no data".
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise FeedMalformedError("the XML document declares entities")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - no entities
    except ElementTree.ParseError as error:
        raise FeedMalformedError("the XML document cannot be read") from error
    texts = {
        item.tag.rpartition("}")[2]: (item.text or "").strip() for item in root.iter() if "ERR_" in item.tag
    }
    if texts.get("ERR_CODE") == NO_DATA:
        return
    said = f"OASIS answered with error {texts.get('ERR_CODE', '')[:10]}: {texts.get('ERR_DESC', '')[:100]}"
    if any(word in said.lower() for word in THROTTLED_WORDS):
        raise FeedDownError(said)
    raise FeedMalformedError(said)


def _table(content: bytes) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FeedMalformedError("the CSV file cannot be read") from error
    if "INTERVALSTARTTIME_GMT" not in (reader.fieldnames or ()):
        raise FeedMalformedError("the CSV file has no column INTERVALSTARTTIME_GMT")
    if any(None in row or None in row.values() for row in rows):
        raise FeedMalformedError("a row of the CSV file is cut off")
    return rows


def _node(row: dict[str, str]) -> str:
    return row.get("NODE") or row.get("NODE_ID") or ""


def _hour(row: dict[str, str]) -> int:
    text = row["INTERVALSTARTTIME_GMT"]  # 2019-02-19T08:00:00-00:00
    try:
        return hours.parse(f"{text[:13]}:00Z")
    except ValueError as error:
        raise FeedMalformedError("INTERVALSTARTTIME_GMT must be a time in GMT") from error


def _value(row: dict[str, str]) -> float | None:
    """Return the value, in the column MW or VALUE depending on the report."""
    return number(row.get("MW") or row.get("VALUE"), "MW")
