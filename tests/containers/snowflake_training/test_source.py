"""The pull from Snowflake: every row goes to one host, the holdout does not depend on the hosts, and names
are quoted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from snowflake_xgboost.identifiers import quoted
from snowflake_xgboost.source import pull, pull_held_out, survey
from snowflake_xgboost.split import Split
from snowflake_xgboost.table import Table, qualified
from tests.support.snowflake_training.image import Warehouse
from toolkit.failure import FatalError

SPLIT = {"seed": 42, "fraction": 0.2}


@dataclass
class Part:
    """The rows of one host: int64 hashes, and the columns in Arrow."""

    hashes: np.ndarray
    columns: pa.Table

    def ids(self) -> np.ndarray:
        return self.columns["ID"].to_numpy().astype(int)


def everything(warehouse: Warehouse, table: Table, split: Split, hosts: int) -> list[Part]:
    """Pull the part of each host. Check that no part is empty."""
    parts = []
    for host in range(hosts):
        batches = list(pull(warehouse.session, table, table.kinds, split, host, hosts))
        hashes = np.concatenate([batch.hashes for batch in batches])
        parts.append(Part(hashes, pa.concat_tables([batch.columns for batch in batches])))
    return parts


@pytest.fixture(scope="module")
def awkward(warehouse: Warehouse) -> Table:
    """A table with blanks, duplicate rows, the smallest and largest integers, text, booleans and a date."""
    warehouse.run(
        "CREATE OR REPLACE TABLE AWKWARD AS SELECT SEQ4() AS ID, "
        "CASE WHEN SEQ4() % 3 = 0 THEN NULL ELSE SEQ4() % 50 END AS N, "
        "CASE SEQ4() % 4 WHEN 0 THEN -9223372036854775808 WHEN 1 THEN 9223372036854775807 END AS EDGE, "
        "CASE WHEN SEQ4() % 5 = 0 THEN NULL ELSE 'city ' || (SEQ4() % 7) END AS CITY, "
        "SEQ4() % 2 = 0 AS EVEN, DATE '2026-01-01' AS SINCE, "
        "CASE WHEN SEQ4() % 11 = 0 THEN NULL ELSE SEQ4() / 3 END AS Y "
        "FROM TABLE(GENERATOR(ROWCOUNT => 30000))"
    )
    warehouse.run("INSERT INTO AWKWARD SELECT * FROM AWKWARD WHERE ID < 100")  # copies of 100 rows
    return survey(warehouse.session, "AWKWARD", "Y")


@pytest.mark.parametrize("hosts", [1, 2, 3, 5])
def test_each_row_goes_to_one_host(warehouse: Warehouse, awkward: Table, hosts: int):
    # when each of several hosts pulls its part
    parts = everything(warehouse, awkward, Split.of(awkward, **SPLIT), hosts)
    # then together the parts have each row as often as the table, and no row is in two parts
    pulled = [np.sort(part.ids()) for part in parts]
    expected = np.sort(np.concatenate([np.arange(30_000), np.arange(100)]))
    assert np.array_equal(np.sort(np.concatenate(pulled)), expected)
    for one in range(hosts):
        for other in range(one):
            assert not np.intersect1d(pulled[one], pulled[other]).size
    # and the parts have about the same size
    sizes = np.array([len(part) for part in pulled])
    assert abs(sizes / expected.size - 1 / hosts).max() < 0.02


def test_held_out_rows_do_not_depend_on_the_hosts(warehouse: Warehouse, awkward: Table):
    split = Split.of(awkward, **SPLIT)
    held = []
    for hosts in (1, 2, 4):
        parts = everything(warehouse, awkward, split, hosts)
        out = [part.hashes[split.held_out(part.hashes)] for part in parts]
        held.append(np.sort(np.concatenate(out)))
        # each host holds out the same share, because the split does not depend on the partition
        shares = np.array([len(rows) / len(part.hashes) for rows, part in zip(out, parts, strict=True)])
        assert abs(shares - 0.2).max() < 0.02
    assert np.array_equal(held[0], held[1])
    assert np.array_equal(held[0], held[2])
    # and a query for the held-out rows returns exactly those
    alone = [batch.hashes for batch in pull_held_out(warehouse.session, awkward, {}, [split])]
    assert np.array_equal(np.sort(np.concatenate(alone)), held[0])


def test_copies_of_a_row_are_in_the_same_split(warehouse: Warehouse, awkward: Table):
    split = Split.of(awkward, **SPLIT)
    (part,) = everything(warehouse, awkward, split, 1)
    ids, out = part.ids(), split.held_out(part.hashes)
    train, validation = set(ids[~out]), set(ids[out])
    assert train.isdisjoint(validation)
    assert len(train) + len(validation) == 30_000


def test_growing_table_keeps_its_held_out_rows(warehouse: Warehouse):
    warehouse.numbers("GROWING", 2000)
    table = survey(warehouse.session, "GROWING", "Y")
    split = Split.of(table, **SPLIT)
    (before,) = everything(warehouse, table, split, 1)
    warehouse.numbers("MORE", 1000, seed=13)
    warehouse.run("INSERT INTO GROWING SELECT * FROM MORE")
    then = {int(value) for value in before.hashes[split.held_out(before.hashes)]}
    now = set()
    for part in everything(warehouse, survey(warehouse.session, "GROWING", "Y"), split, 3):
        now |= {int(value) for value in part.hashes[split.held_out(part.hashes)]}
    assert then < now


def test_holdout_changes_with_the_seed_and_grows_with_the_fraction(warehouse: Warehouse, awkward: Table):
    (part,) = everything(warehouse, awkward, Split.of(awkward, 42, 0.2), 1)
    fewer = Split.of(awkward, 42, 0.2).held_out(part.hashes)
    more = Split.of(awkward, 42, 0.3).held_out(part.hashes)
    assert np.all(more[fewer])
    assert more.sum() > fewer.sum()
    (other,) = everything(warehouse, awkward, Split.of(awkward, 43, 0.2), 1)
    ids, others = part.ids(), other.ids()
    same = set(ids[fewer]) & set(others[Split.of(awkward, 43, 0.2).held_out(other.hashes)])
    assert 0.02 < len(same) / 30_000 < 0.06  # 0.2 * 0.2 of the rows are in both holdouts by chance


def test_pull_with_two_splits_returns_their_common_holdout(warehouse: Warehouse, awkward: Table):
    """A row is pulled if both of two models with different splits hold it out."""
    splits = [Split.of(awkward, 1, 0.3), Split.of(awkward, 2, 0.3)]
    ids = [
        set(np.concatenate([b.columns["ID"].to_numpy() for b in batches]))
        for batches in (
            list(pull_held_out(warehouse.session, awkward, {"ID": "number"}, chosen))
            for chosen in (splits[:1], splits[1:], splits)
        )
    ]
    assert ids[0] & ids[1] == ids[2]


def test_survey_returns_column_kinds_and_counts(awkward: Table):
    assert awkward.kinds == {
        "ID": "number",
        "N": "number",
        "EDGE": "number",
        "CITY": "text",
        "EVEN": "boolean",
    }
    assert awkward.left_out == {"SINCE": "DATE"}
    assert awkward.rows == 30_100
    assert awkward.labelled < awkward.rows
    assert awkward.filled["N"] < awkward.filled["ID"] == 30_100


def test_columns_of_any_name_are_pulled(warehouse: Warehouse):
    names = ["it's", 'a "quoted" name', "lower", "naïve % {x}", "SELECT"]
    columns = ", ".join(f"{quoted(name)} FLOAT" for name in names)
    warehouse.run(f'CREATE OR REPLACE TABLE "Odd Names" ({columns}, "y ; --" FLOAT)')
    for row in range(30):
        warehouse.run(f'INSERT INTO "Odd Names" VALUES ({", ".join(str(row + i) for i in range(6))})')
    table = survey(warehouse.session, '"Odd Names"', '"y ; --"')
    (part,) = everything(warehouse, table, Split.of(table, **SPLIT), 1)
    assert part.columns.column_names == names
    assert sorted(part.columns["it's"].to_pylist()) == list(map(float, range(30)))


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("housing", '"HOUSING"'),
        ("db.Public.housing", '"DB"."PUBLIC"."HOUSING"'),
        ('"My Table"', '"My Table"'),
        ('s."a ""b"" c"', '"S"."a ""b"" c"'),
    ],
)
def test_table_is_quoted_part_by_part(name: str, sql: str):
    assert qualified(name) == sql


@pytest.mark.parametrize(
    "name",
    ["", "a b", "t; DROP TABLE t", 't" UNION SELECT', "a.b.c.d", "(SELECT 1)", "t--", "1t", '"open', "a..b"],
)
def test_invalid_table_name_is_refused(name: str):
    with pytest.raises(FatalError, match=r"must be TABLE, SCHEMA\.TABLE or DATABASE\.SCHEMA\.TABLE"):
        qualified(name)


def test_unquoted_target_matches_a_column_in_another_case(warehouse: Warehouse):
    warehouse.numbers("CASES", 30)
    assert survey(warehouse.session, "cases", "y").target == "Y"
    with pytest.raises(FatalError, match='has no column "y": it has A, B, Y'):
        survey(warehouse.session, "CASES", '"y"')
