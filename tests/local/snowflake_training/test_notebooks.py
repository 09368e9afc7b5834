"""The notebooks, run as a data scientist runs them: all cells, in the notebooks' environment, under the role
of the stack's notebook instance, with IAM enforced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from scenarios import data
from scenarios.snowflake_training import warehouse
from tests.support.clouds import client
from tests.support.notebooks import DataScientist, data_scientist
from tooling import envs

STACK = "groundplan-dev-snowflake-training"
NOTEBOOKS = envs.ROOT / "notebooks" / "snowflake_training"
ROUNDS = 20


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A separate cloud with the project's stack and the Snowflake connection in its secret."""
    if not os.environ.get("GROUNDPLAN_DATA"):
        try:
            data.reach(data.ORIGIN)
        except data.DataError as error:
            pytest.skip(f"California Housing is neither in GROUNDPLAN_DATA nor to be fetched: {error}")
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as running:
        running.deploy(STACK, context={"only": "snowflake_training"})
        secret = running.snowflake.read_text()
        client(running, "secretsmanager").put_secret_value(
            SecretId="snowflake_credentials", SecretString=secret
        )
        yield running


@pytest.fixture(scope="module")
def scientist(cloud: LocalCloud) -> Iterator[DataScientist]:
    scientist = data_scientist(cloud, STACK, NOTEBOOKS, GROUNDPLAN_ROUNDS=str(ROUNDS))
    cloud.enforce_iam(True)
    yield scientist
    cloud.enforce_iam(False)


@pytest.fixture(scope="module")
def loaded(scientist: DataScientist) -> dict[str, Any]:
    return scientist.run("load_dataset", "table=TABLE, rows=rows, blanks=int(blanks)")


@pytest.fixture(scope="module")
def trained(scientist: DataScientist, loaded: dict[str, Any]) -> dict[str, Any]:
    wanted = "job=job.training_job_name, final=final, trees=len(curve['validation'])"
    wanted += ", defaults=trainer.sagemaker_session.sagemaker_config"
    wanted += ", seen=seen_rows, unseen=len(unseen), answers=len(predicted), rmse=rmse, guess=guess"
    return scientist.run("train", wanted)


def tables(cloud: LocalCloud) -> dict[str, int]:
    """Return the number of rows of each table in the local Snowflake."""
    with warehouse.connect(json.loads(cloud.snowflake.read_text())) as session, session.cursor() as cursor:
        names = [name for (name,) in cursor.execute("SELECT table_name FROM information_schema.tables") or ()]
        counts = [next(iter(cursor.execute(f"SELECT COUNT(*) FROM {name}") or ()))[0] for name in names]  # noqa: S608
        return dict(zip(names, counts, strict=True))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_is_stored_without_output(path: Path) -> None:
    # output could contain account ids and rows of data
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]


def test_first_notebook_loads_the_whole_table(cloud: LocalCloud, loaded: dict[str, Any]) -> None:
    assert loaded["rows"] == 20_640
    assert tables(cloud)[loaded["table"]] == 20_640
    # Blank cells are missing values. The census's file has 207 of them, scikit-learn's copy has none.
    assert loaded["blanks"] == (207 if os.environ.get("GROUNDPLAN_DATA") else 0)


def test_second_notebook_trains_on_two_instances(cloud: LocalCloud, trained: dict[str, Any]) -> None:
    job = client(cloud, "sagemaker").describe_training_job(TrainingJobName=trained["job"])
    assert job["TrainingJobStatus"] == "Completed"
    assert job["ResourceConfig"]["InstanceCount"] == 2
    # the job used every row except the holdout, trained the requested trees, and reported its metrics
    assert trained["seen"] + trained["unseen"] == 20_640
    assert trained["final"]["rows:pulled"] == trained["seen"]
    assert trained["trees"] == ROUNDS
    assert trained["final"]["validation:rmse"] > 0


def test_sdk_sends_no_usage_reports(trained: dict[str, Any]) -> None:
    assert trained["defaults"]["SageMaker"]["PythonSDK"]["Modules"]["TelemetryOptOut"] is True


def test_endpoint_of_the_notebook_predicts_held_out_blocks(trained: dict[str, Any]) -> None:
    assert trained["answers"] == trained["unseen"] > 1_500
    # twenty trees are few, but much better than predicting the mean
    assert trained["rmse"] < 0.7 * trained["guess"]


def test_notebook_deletes_all_resources_but_the_table(cloud: LocalCloud, trained: dict[str, Any]) -> None:
    sagemaker = client(cloud, "sagemaker")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
    assert set(tables(cloud)) == {"CALIFORNIA_HOUSING"}


def test_role_of_the_notebook_trains_under_its_own_names_only(
    cloud: LocalCloud, scientist: DataScientist
) -> None:
    # given the data scientist's credentials; when they are used to delete the deployed endpoint
    own = client(cloud, "sagemaker", **scientist.credentials)
    # then IAM refuses
    with pytest.raises(ClientError, match="sagemaker:DeleteEndpoint"):
        own.delete_endpoint(EndpointName=STACK)
