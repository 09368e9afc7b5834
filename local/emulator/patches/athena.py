"""Athena: named queries, views, partition projection, and permissions of queries."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from local.emulator import ministack
from local.emulator.ministack import here
from local.emulator.reach import Cloud, hook, put, replace, touch

VIEW = re.compile(r"^/\* Presto View: ([A-Za-z0-9+/=]+) \*/$")
DEEPEST = 10
"""Maximum depth of views that use other views."""
JAVA = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
"""Symbols in Java's date formats, which partition projection uses, and Python's equivalents."""
UNITS = {"DAYS": 1, "DAY": 1, "HOURS": 1 / 24, "HOUR": 1 / 24, "WEEKS": 7, "WEEK": 7}
"""Length in days of each unit in a date range."""


_asker: contextvars.ContextVar[str] = contextvars.ContextVar("asker", default="")
"""Access key of the query's caller; empty for the emulator's own queries."""


class QueryError(Exception):
    """A query fails with this message."""


@hook
def named_queries_are_resources(cloud: Cloud) -> None:
    """MiniStack has named queries but refuses their CloudFormation type."""
    provisioners = "services.cloudformation.provisioners"
    made = touch("services.athena._create_named_query", "data")
    gone = touch("services.athena._delete_named_query", "data")
    workgroups = touch("services.athena._workgroups")
    members = ("Database", "Description", "Name", "QueryString", "WorkGroup")

    def create(logical_id: str, properties: dict, stack: str) -> tuple[str, dict]:
        for name in ("Database", "QueryString"):
            if not properties.get(name):
                raise ValueError(f"Property validation failure: [The property {{/{name}}} is required]")
        group = properties.get("WorkGroup", "primary")
        if group != "primary" and group not in workgroups:
            raise ValueError(f"WorkGroup {group} is not found.")
        given = {name: properties[name] for name in members if name in properties}
        query = json.loads(made({"Name": logical_id} | given)[2])["NamedQueryId"]
        return query, {"NamedQueryId": query}

    handlers = {
        "create": create,
        "update": lambda ref, old, new, stack: (ref, {"NamedQueryId": ref}),
        "delete": lambda ref, properties: gone({"NamedQueryId": ref}),
    }
    put(f"{provisioners}._RESOURCE_HANDLERS", "AWS::Athena::NamedQuery", value=handlers)
    put(f"{provisioners}._REPLACING_PROPERTIES", "AWS::Athena::NamedQuery", value=members)


@hook
def queries_read_tables_alone(cloud: Cloud) -> None:
    """In MiniStack, a query can read any file of this machine, and objects that its caller may not read."""
    access_key_of = touch("core.router.extract_access_key_id", "headers", "query_params")
    handle = touch("app.SERVICE_HANDLERS")["athena"]
    kinds = touch("services.athena._DUCKDB_TYPE_MAP")

    async def asked(method: str, path: str, headers: dict, body: bytes, query: dict) -> tuple:
        token = _asker.set(access_key_of(headers, query) or "")
        try:
            return await handle(method, path, headers, body, query)
        finally:
            _asker.reset(token)

    put("app.SERVICE_HANDLERS", "athena", value=asked)

    @replace("services.athena._run_duckdb", "query", "database", "catalog")
    async def run(original: Callable, query: str, database: str, catalog: str | None = None) -> dict:
        rewritten = touch("services.athena._rewrite_data_paths", "query", "database", "catalog")
        text, buckets, folders = await rewritten(query, database, catalog)
        if buckets:
            raise QueryError("tables in S3 table buckets are not implemented in the local cloud")
        try:
            return await asyncio.to_thread(_answer, text, folders, kinds)
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)


def _answer(query: str, folders: list[str], kinds: dict[str, str]) -> dict[str, Any]:
    """Run a query that can read only files below `folders`."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET threads = 1")
        connection.execute("SET disabled_optimizers = 'type_pushdown'")  # as MiniStack does
        connection.execute("SET allowed_directories = $folders", {"folders": folders})
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        result = connection.execute(query)
        columns = result.description or []
        types = [str(each[1]).upper().split("(")[0].strip() for each in columns]
        return {
            "columns": [each[0] for each in columns],
            "column_types": [kinds.get(each, "varchar") for each in types],
            "rows": [list(row) for row in result.fetchall()],
        }


@hook
def views_are_their_query(cloud: Cloud) -> None:
    """MiniStack treats a view in the Glue catalog as a table without files, and lets callers read all
    tables."""
    references = touch("services.athena._table_references", "query")
    tables = touch("services.glue._tables")

    @replace("services.athena._rewrite_data_paths", "query", "database", "catalog")
    async def rewrite(original: Callable, query: str, database: str, catalog: str | None = None) -> Any:
        for _ in range(DEEPEST):
            edits = []
            for reference in references(query):
                name = reference.database or database or "default"
                table = tables.get(f"{name}/{reference.table}")
                if table is None:
                    continue
                _allowed(name, reference.table, table)
                if text := _view(table):
                    alias = "" if reference.aliased else f' AS "{reference.table}"'
                    edits.append((reference.start, reference.end, f"({text}){alias}"))
            if not edits:
                return await original(query, database, catalog)
            for start, end, text in sorted(edits, reverse=True):
                query = query[:start] + text + query[end:]
        raise QueryError(f"views must be nested at most {DEEPEST} deep")


def _view(table: dict[str, Any]) -> str:
    """Return a view's query; empty for a table."""
    if table.get("TableType") != "VIRTUAL_VIEW":
        return ""
    found = VIEW.match(table.get("ViewOriginalText") or "")
    if not found:
        raise QueryError(f"{table.get('Name')} is not an Athena view")
    return json.loads(base64.b64decode(found[1]))["originalSql"]


def _allowed(database: str, name: str, table: dict[str, Any]) -> None:
    """Raise `QueryError` if the caller may not read the table or its objects in S3."""
    account, region = here()
    needed = [("glue:GetTable", f"arn:aws:glue:{region}:{account}:table/{database}/{name}")]
    location = (table.get("StorageDescriptor") or {}).get("Location") or ""
    if location.startswith("s3://"):
        needed.append(("s3:GetObject", f"arn:aws:s3:::{location.removeprefix('s3://').rstrip('/')}/object"))
    for action, resource in needed:
        if _asker.get() and (said := ministack.denial(account, region, _asker.get(), action, resource)):
            raise QueryError(said)


@hook
def partitions_are_projected(cloud: Cloud) -> None:
    """MiniStack ignores partition projection and also reads files outside of the projected partitions. It
    uses a Parquet file's columns instead of the table's."""
    empty = touch("services.athena._empty_relation", "table_data")

    @replace("services.athena._table_relation", "table_data", "files")
    def relation(original: Callable, table: dict, files: list[str]) -> str:
        if (table.get("Parameters") or {}).get("projection.enabled") == "true":
            projected = Projection(table)
            files = [file for file in files if projected.has(file)]
        if not files:
            return empty(table)
        found = original(table, files)
        if not found.startswith("read_parquet("):
            return found
        names = [*(table["StorageDescriptor"].get("Columns") or []), *(table.get("PartitionKeys") or [])]
        columns = ", ".join(f'"{each["Name"]}"' for each in names)
        everything = f"SELECT * FROM {empty(table)} UNION ALL BY NAME SELECT * FROM {found}"  # noqa: S608
        return f"(SELECT {columns} FROM ({everything}))"  # noqa: S608


class Projection:
    """The projected partitions of a table. The projection types `date` and `integer` are supported.

    Raises `QueryError` for properties that Athena refuses, and for unsupported types.
    """

    def __init__(self, table: dict[str, Any]):
        self._given: dict[str, str] = table["Parameters"]
        self._name = table.get("Name")
        location = table["StorageDescriptor"]["Location"].rstrip("/")
        keys = [each["Name"] for each in table.get("PartitionKeys") or []]
        template = self._given.get("storage.location.template") or "/".join(
            (location, *(f"{key}=${{{key}}}" for key in keys))
        )
        if not template.startswith(f"{location}/"):
            raise QueryError(
                f"HIVE_INVALID_METADATA: {self._name}: storage.location.template must be below {location}"
            )
        pattern = re.escape(template.removeprefix(f"{location}/").rstrip("/"))
        self._values: dict[str, Callable[[str], bool]] = {}
        for key in keys:
            place = re.escape(f"${{{key}}}")
            if place not in pattern:
                raise QueryError(
                    f"HIVE_INVALID_METADATA: {self._name}: storage.location.template has no ${{{key}}}"
                )
            pattern = pattern.replace(place, f"(?P<{key}>[^/]+)")
            self._values[key] = self._of(key)
        self._pattern = re.compile(f"/{pattern}/[^/]+$")

    def has(self, file: str) -> bool:
        """Return whether a file is in one of the partitions."""
        found = self._pattern.search(file)
        return bool(found) and all(valid(found[key]) for key, valid in self._values.items())

    def _of(self, key: str) -> Callable[[str], bool]:
        """Return a function that checks whether a value of a partition key is in the projected range."""
        kind = self._given.get(f"projection.{key}.type")
        least, comma, most = self._given.get(f"projection.{key}.range", "").partition(",")
        if kind not in ("date", "integer"):
            raise QueryError(
                f"{self._name}: projection.{key}.type {kind} is not implemented in the local cloud"
            )
        if not comma:
            raise QueryError(
                f"HIVE_INVALID_METADATA: {self._name}: projection.{key}.range must have two values"
            )
        if kind == "integer":
            digits = int(self._given.get(f"projection.{key}.digits", "0"))
            low, high = int(least), int(most)
            return lambda text: (
                text.lstrip("-").isdigit() and low <= int(text) <= high and text == f"{int(text):0{digits}d}"
            )
        form = self._given.get(f"projection.{key}.format", "")
        for java, python in JAVA.items():
            form = form.replace(java, python)
        if "%" not in form:
            raise QueryError(f"HIVE_INVALID_METADATA: {self._name}: projection.{key}.format is missing")
        begin, end = (self._moment(text.strip(), form) for text in (least, most))

        def valid(text: str) -> bool:
            try:
                return begin <= datetime.strptime(text, form).replace(tzinfo=UTC) <= end
            except ValueError:
                return False

        return valid

    def _moment(self, text: str, form: str) -> datetime:
        """Parse the first or last date of a range: a date, or an expression such as `NOW+3DAYS`."""
        found = re.fullmatch(r"NOW(?:\s*([+-])\s*(\d+)\s*([A-Z]+))?", text)
        if not found:
            try:
                return datetime.strptime(text, form).replace(tzinfo=UTC)
            except ValueError:
                raise QueryError(f"HIVE_INVALID_METADATA: {self._name}: {text} is not a date") from None
        sign, count, unit = found.groups()
        days = UNITS.get(unit or "DAYS")
        if days is None:
            raise QueryError(f"{self._name}: {unit} in a range is not implemented in the local cloud")
        return datetime.now(UTC) + timedelta(days=days * int(count or 0)) * (-1 if sign == "-" else 1)
