"""The comparison of candidate and champion on their common holdout."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import pytest

from snowflake_xgboost.source import survey
from snowflake_xgboost.split import Split
from tests.support.snowflake_training.image import QUICK, Image, Job, Warehouse


@pytest.fixture(scope="module")
def table(warehouse: Warehouse) -> str:
    return warehouse.numbers("JUDGED", 3000, KIND="CASE ID % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' END")


def packed(job: Job, into: Path) -> Path:
    """Write the `model.tar.gz` that SageMaker makes from a job's model."""
    into.mkdir(parents=True)
    with tarfile.open(into / "model.tar.gz", "w:gz") as archive:
        for path in (job.first.base / "model").iterdir():
            archive.add(path, path.name)
    return into


@pytest.fixture
def judge(image: Image, secret: str, table: str, tmp_path: Path):
    """`judge(candidate, champion, setting=value)` runs a job that compares the models of two training
    jobs."""

    def run(candidate: Job, champion: Job, **change: str) -> Job:
        base = tmp_path / f"evaluation-{len(image.processes)}"
        for name, job in {"candidate": candidate, "champion": champion}.items():
            packed(job, base / "input/data" / name)
        given = {**QUICK, "mode": "evaluate", "secret": secret, "table": table, "target": "Y", **change}
        return image.train(given, bases=[base])

    return run


def scores(job: Job) -> dict[str, float]:
    found = re.findall(r"(candidate|champion|rows):(?:rmse|evaluated)=([0-9.eE+-]+)", job.first.log)
    return {name: float(value) for name, value in found}


def test_both_are_scored_on_the_rows_held_out(image: Image, secret: str, table: str, judge):
    given = {**QUICK, "secret": secret, "table": table, "target": "Y"}
    strong, weak = image.train({**given, "rounds": "80"}, hosts=2), image.train({**given, "rounds": "3"})
    for job in (strong, weak):
        job.succeeded()
    found = scores(judge(strong, weak).succeeded())
    # each model is evaluated on the rows that its training job held out, so its error equals that job's
    # validation error
    assert found["candidate"] == pytest.approx(strong.metrics()["validation_rmse"], rel=1e-5)
    assert found["champion"] == pytest.approx(weak.metrics()["validation_rmse"], rel=1e-5)
    assert found["rows"] == strong.metrics()["rows_validation"] == weak.metrics()["rows_validation"]
    assert found["candidate"] < found["champion"]


def test_models_of_different_preprocessing_are_scored_on_their_common_holdout(
    image: Image, secret: str, table: str, judge
):
    given = {**QUICK, "secret": secret, "table": table, "target": "Y"}
    one = image.train({**given, "seed": "1", "validation_fraction": "0.3", "blanks": "drop"})
    other = image.train({**given, "seed": "2", "validation_fraction": "0.3", "coordinates": "A,B"})
    for job in (one, other):
        job.succeeded()
    found = scores(judge(one, other).succeeded())
    # one model drops the rows in which KIND is blank, a third of all rows
    assert found["rows"] == pytest.approx(3000 * 0.3 * 0.3 * 2 / 3, rel=0.25)
    assert set(found) == {"candidate", "champion", "rows"}


def test_incomparable_models_fail_the_job_with_the_reason(
    image: Image, secret: str, warehouse: Warehouse, table: str, judge, tmp_path: Path
):
    given = {**QUICK, "secret": secret, "table": table, "target": "Y"}
    model, other = image.train(given), image.train({**given, "target": "A"})
    for job in (model, other):
        job.succeeded()
    assert judge(model, other).reason() == "the champion must predict target Y, got A"
    # a table without a column that the model needs
    warehouse.run(f"CREATE OR REPLACE TABLE LESS AS SELECT A, B, Y FROM {table}")
    reason = judge(model, model, table="LESS").reason()
    assert reason == "table LESS must have column KIND (text), which the candidate needs"
    # a table whose rows are all training rows of the model
    split = Split.of(survey(warehouse.session, table, "Y"), 42, 0.2)
    warehouse.run(f"CREATE OR REPLACE TABLE SEEN AS SELECT * FROM {table} WHERE NOT ({split.held_out_sql})")
    reason = judge(model, model, table="SEEN").reason()
    assert reason == "no row of table SEEN was held out from both models"
    # an archive that lacks a file of the model
    strange = image.train(given).succeeded()
    (strange.first.base / "model/preparation.json").unlink()
    assert "must have a model of this container" in judge(model, strange).reason()
    # no champion
    base = tmp_path / "alone"
    packed(model, base / "input/data/candidate")
    shutil.copytree(base / "input/data/candidate", base / "input/data/unused")
    alone = image.train({**given, "mode": "evaluate"}, bases=[base])
    assert alone.reason() == "channel champion must hold a model.tar.gz, got nothing"
