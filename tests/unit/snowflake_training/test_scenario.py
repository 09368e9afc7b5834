"""The scenario's counts, prediction requests, and connection file."""

import numpy as np
import pyarrow as pa
import pytest

from scenarios import ScenarioError
from scenarios.snowflake_training import steps, warehouse


def test_coverage_counts_lost_and_duplicate_rows_but_not_equal_ones():
    # given a table of five rows, of which two are equal in every column
    table = np.array([1, 2, 3, 4, 4])
    # then all rows, in any order, have full coverage and no duplicates
    assert steps.reached(table, np.array([4, 3, 2, 1, 4])) == {"coverage": 1.0, "duplicate_rows": 0.0}
    # and if one row of the five is lost, and two copies of another row are added, both are counted
    assert steps.reached(table, np.array([1, 1, 1, 2, 4, 4])) == {"coverage": 0.8, "duplicate_rows": 2.0}


@pytest.fixture
def connection_file(tmp_path, monkeypatch):
    path = tmp_path / "connection.json"
    monkeypatch.setenv("GROUNDPLAN_SNOWFLAKE", str(path))
    return path


def test_missing_connection_raises_an_error_that_names_the_variable(monkeypatch):
    monkeypatch.delenv("GROUNDPLAN_SNOWFLAKE", raising=False)
    with pytest.raises(ScenarioError, match="set GROUNDPLAN_SNOWFLAKE"):
        warehouse.connection()


def test_missing_field_of_a_connection_is_named_without_values(connection_file):
    connection_file.write_text('{"account": "a", "user": "u", "password": "hush", "database": "d"}')
    with pytest.raises(ScenarioError, match="lacks warehouse, schema") as caught:
        warehouse.connection()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("content", ["password=hush", '["hush"]'])
def test_invalid_connection_file_is_reported_without_its_content(connection_file, content):
    connection_file.write_text(content)
    with pytest.raises(ScenarioError, match="is not a JSON object") as caught:
        warehouse.connection()
    assert "hush" not in str(caught.value)


def test_predictions_are_requested_in_batches_of_csv_with_headers(monkeypatch):
    asked = []

    class Endpoint:
        def invoke_endpoint(self, **request):
            asked.append(request["Body"].decode().splitlines())
            rows = len(asked[-1]) - 1
            return {"Body": type("Body", (), {"read": lambda self: b"1.5\n" * rows})()}

    monkeypatch.setattr(steps.aws, "client", lambda service: Endpoint())

    answers = steps.Service("name").ask(pa.table({"A": [1.0, None] * 300, "B": ["x", "y, z"] * 300}))

    assert answers.shape == (600,)
    assert [len(lines) for lines in asked] == [501, 101]
    assert asked[0][:3] == ['"A","B"', '1,"x"', ',"y, z"']
