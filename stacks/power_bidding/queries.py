"""The Athena tables of offers and hours, and the view that joins them."""

from __future__ import annotations

from constructs import Construct

from groundplan import ArtifactBucket, HourlyTable, QueryTables, View

BIDS = {
    "made": "string",
    "hour_utc": "string",
    "market": "string",
    "location": "string",
    "asset": "string",
    "segment": "int",
    "mw": "double",
    "price": "double",
    "source": "string",
}
"""Columns of the offers. A row is a segment of an offer's curve."""
HOURS = {
    "hour_utc": "string",
    "location": "string",
    "version": "int",
    "status": "string",
    "price": "double",
    "real_time": "double",
    "load": "double",
    "temperature": "double",
    "flags": "string",
}
"""Columns of the hours' datasets. A row has the values of one location in one version of an hour."""
RESULTS = """
SELECT b.asset, b.hour_utc, b.market, b.location, h.settled_price,
       max(CASE WHEN b.price <= h.settled_price THEN b.mw END) AS cleared_mw, min(b.mw) AS least_mw,
       count(*) AS segments, min(b.source) AS source, b.date, b.hour
FROM bids b
JOIN (
  SELECT a.hour_utc, a.location, a.date, a.hour, m.market,
         CASE WHEN m.market = 'DA' THEN a.price ELSE a.real_time END AS settled_price
  FROM hours a
  JOIN (SELECT hour_utc, location, max(version) AS newest FROM hours GROUP BY hour_utc, location) v
    ON v.hour_utc = a.hour_utc AND v.location = a.location AND v.newest = a.version
  CROSS JOIN (VALUES ('DA'), ('RT')) AS m (market)
) h ON h.hour_utc = b.hour_utc AND h.location = b.location AND h.market = b.market
   AND h.date = b.date AND h.hour = b.hour
GROUP BY b.asset, b.hour_utc, b.market, b.location, h.settled_price, b.date, b.hour
""".strip()
"""Every offer, with the settled price of its hour from the newest version of the hour's dataset."""
RESULT_COLUMNS = {
    "asset": "string",
    "hour_utc": "string",
    "market": "string",
    "location": "string",
    "settled_price": "double",
    "cleared_mw": "double",
    "least_mw": "double",
    "segments": "bigint",
    "source": "string",
    "date": "string",
    "hour": "string",
}
QUERIES = {
    "curve-of-an-hour": "SELECT market, asset, mw, price FROM bids"
    " WHERE date = '2022-01-31' AND hour = '17' ORDER BY market, asset, segment",
    "offers-and-prices-of-a-day": "SELECT * FROM bid_results WHERE date = '2022-01-31'"
    " ORDER BY asset, market, hour",
    "hours-by-source": "SELECT date, market, source, count(DISTINCT hour) AS hours FROM bids"
    " WHERE date >= '2022-01-01' GROUP BY date, market, source ORDER BY date, market, source",
    "corrected-hours": "SELECT hour_utc, location, max(version) AS versions FROM hours"
    " WHERE date >= '2022-01-01' GROUP BY hour_utc, location HAVING max(version) > 1 ORDER BY hour_utc",
}


def queries(scope: Construct, *, name: str, bucket: ArtifactBucket) -> QueryTables:
    """Create database, tables, view and named queries."""
    return QueryTables(
        scope,
        "Queries",
        name=name,
        bucket=bucket,
        tables={
            "bids": HourlyTable(folder="bids", columns=BIDS),
            "hours": HourlyTable(folder="hours", columns=HOURS),
        },
        views={"bid_results": View(sql=RESULTS, columns=RESULT_COLUMNS)},
        queries=QUERIES,
    )
