"""The choice of the training table, and the errors when the table is not available."""

from pathlib import Path

import pyarrow as pa
import pytest

from scenarios import data
from scenarios.snowflake_training import warehouse

CSV = """longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,\
median_income,median_house_value,ocean_proximity
-122.23,37.88,41,880,129,322,126,8.3252,452600,NEAR BAY
-122.22,37.86,21,7099,,2401,1138,8.3014,358500,NEAR BAY
"""
SCIKIT_LEARN = [
    "MEDINC",
    "HOUSEAGE",
    "AVEROOMS",
    "AVEBEDRMS",
    "POPULATION",
    "AVEOCCUP",
    "LATITUDE",
    "LONGITUDE",
]


@pytest.fixture
def nothing_fetched(monkeypatch):
    """Make the server from which scikit-learn downloads the table unreachable."""
    monkeypatch.delenv("GROUNDPLAN_DATA", raising=False)

    def refuse(url):
        raise data.DataError("out of reach")

    monkeypatch.setattr(data, "reach", refuse)


def test_table_of_a_given_folder_has_scikit_learns_columns(tmp_path, monkeypatch):
    (tmp_path / "california_housing.csv").write_text(CSV)
    monkeypatch.setenv("GROUNDPLAN_DATA", str(tmp_path))

    table = data.load()

    assert (table.name, table.target, table.scale) == ("CALIFORNIA_HOUSING", "MEDIAN_HOUSE_VALUE", 100_000)
    assert table.features == SCIKIT_LEARN
    assert table.rows["AVEROOMS"].to_pylist() == pytest.approx([6.98412698, 6.23813708])
    assert table.rows["AVEBEDRMS"].to_pylist() == [pytest.approx(1.02380952), None]
    assert table.rows["AVEOCCUP"].to_pylist() == pytest.approx([2.55555556, 2.10984183])


def test_missing_data_file_is_an_error_and_not_another_table(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDPLAN_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=r"GROUNDPLAN_DATA.*no california_housing\.csv"):
        data.load()


def test_file_that_lacks_columns_is_refused_by_their_names(tmp_path, monkeypatch):
    (tmp_path / "california_housing.csv").write_text("a,b\n1,2\n")
    monkeypatch.setenv("GROUNDPLAN_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=r"lacks the columns households, .*median_house_value"):
        data.load()


def test_table_comes_from_a_package_when_the_loader_fails(nothing_fetched):
    said = []

    table = data.load(said.append)

    assert table.name == "DIAMONDS"
    assert table.rows.num_rows >= 10_000
    assert table.rows[table.target].null_count == 0
    assert any("is not available: out of reach" in line for line in said)
    assert table.licence
    assert "plotnine" in table.source


def test_loaded_table_is_cached(nothing_fetched, monkeypatch, tmp_path):
    monkeypatch.setattr(data.envs, "home", lambda: tmp_path)
    kept = tmp_path / "data" / "california_housing_scikit_learn.csv"
    kept.parent.mkdir()
    kept.write_text("MedInc,Latitude,Longitude,MedHouseVal\n8.3,37.9,-122.2,4.526\n")

    table = data.load()

    assert (table.target, table.scale, table.rows.num_rows) == ("MEDIAN_HOUSE_VALUE", 100_000, 1)
    assert table.rows[table.target].to_pylist() == [pytest.approx(452_600)]
    assert "scikit-learn" in table.source


def test_columns_are_declared_by_type_and_quoted():
    rows = pa.table({"TABLE": [1.0], "CUT": ["Ideal"], 'A"B': [1.0]})
    assert warehouse.declaration(rows) == '"TABLE" DOUBLE, "CUT" VARCHAR, "A""B" DOUBLE'


def test_empty_cell_is_a_missing_value_unlike_the_text_na(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("rooms,place\n4,NA\n,\n6,coast\n")
    found = data.read(path)
    assert found.to_pydict() == {"ROOMS": [4.0, None, 6.0], "PLACE": ["NA", None, "coast"]}
