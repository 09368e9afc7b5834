"""The notebooks as a data scientist runs them: every cell, in their own environment, under the role of the
stack's notebook instance, with IAM enforced."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from scenarios import data
from scenarios.snowflake_training import warehouse
from tooling import envs

STACK = "groundplan-dev-snowflake-training"
NOTEBOOKS = envs.ROOT / "notebooks" / "snowflake_training"
ROUNDS = 20
NEVER = 540
"""Seconds that a notebook may take: a cell has no limit of its own, for on a busy machine it would be met."""

EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

path, wanted = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
notebook.cells.append(nbformat.v4.new_code_cell(f"import json\\nprint(json.dumps(dict({wanted})))"))
client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": "."}})
client.execute()
print(notebook.cells[-1]["outputs"][0]["text"])
"""
"""Runs a notebook, then has its kernel tell what is wanted, as JSON in the last line."""


class DataScientist:
    """Whoever sits at the stack's notebook instance."""

    def __init__(self, cloud: LocalCloud, credentials: dict[str, str]):
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GROUNDPLAN_"))
        }
        self.environment |= cloud.env() | credentials
        # The connection is not for the notebooks to find in a file: they read the stack's secret.
        del self.environment["GROUNDPLAN_SNOWFLAKE"]
        self.environment |= {"GROUNDPLAN_STACK": STACK, "GROUNDPLAN_ROUNDS": str(ROUNDS)}
        if folder := os.environ.get("GROUNDPLAN_DATA"):
            self.environment["GROUNDPLAN_DATA"] = str(Path(folder).expanduser().resolve())

    def run(self, notebook: str, wanted: str) -> dict[str, Any]:
        """Run every cell; returns what `wanted`, as arguments of `dict`, is in the end."""
        done = subprocess.run(
            [str(envs.environment("notebooks")), "-c", EXECUTE, f"{notebook}.ipynb", wanted],
            cwd=NOTEBOOKS,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=NEVER,
            check=False,
        )
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).strip()
        assert done.returncode == 0, said.splitlines()[-1] + "\n" + said[-4000:]
        return json.loads(done.stdout.splitlines()[-2])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A cloud of its own with the project's stack and the connection in its secret."""
    if not os.environ.get("GROUNDPLAN_DATA"):
        try:
            data.reach(data.ORIGIN)
        except data.DataError as error:
            pytest.skip(f"California Housing is neither in GROUNDPLAN_DATA nor to be fetched: {error}")
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as running:
        running.deploy(STACK)
        secret = running.snowflake.read_text()
        client(running, "secretsmanager").put_secret_value(
            SecretId="snowflake_credentials", SecretString=secret
        )
        yield running


@pytest.fixture(scope="module")
def scientist(cloud: LocalCloud) -> Iterator[DataScientist]:
    instance = client(cloud, "sagemaker").describe_notebook_instance(NotebookInstanceName=STACK)
    session = client(cloud, "sts").assume_role(RoleArn=instance["RoleArn"], RoleSessionName="SageMaker")
    credentials = {
        "AWS_ACCESS_KEY_ID": session["Credentials"]["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["Credentials"]["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["Credentials"]["SessionToken"],
    }
    cloud.enforce_iam(True)
    yield DataScientist(cloud, credentials)
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


def client(cloud: LocalCloud, service: Any) -> Any:
    """A client with the person's own keys."""
    return boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        aws_access_key_id=cloud.key.access_key_id,
        aws_secret_access_key=cloud.key.secret_access_key,
    )


def tables(cloud: LocalCloud) -> dict[str, int]:
    """Rows by table in the local Snowflake."""
    with warehouse.connect(json.loads(cloud.snowflake.read_text())) as session, session.cursor() as cursor:
        names = [name for (name,) in cursor.execute("SELECT table_name FROM information_schema.tables") or ()]
        counts = [next(iter(cursor.execute(f"SELECT COUNT(*) FROM {name}") or ()))[0] for name in names]  # noqa: S608
        return dict(zip(names, counts, strict=True))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_it_printed(path: Path) -> None:
    # an output holds what was on one person's screen: account ids, rows of data
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]


def test_the_first_notebook_loads_the_whole_table(cloud: LocalCloud, loaded: dict[str, Any]) -> None:
    assert loaded["rows"] == 20_640
    assert tables(cloud)[loaded["table"]] == 20_640
    # blank cells arrive as blanks: the census's own file has 207, scikit-learn's copy none
    assert loaded["blanks"] == (207 if os.environ.get("GROUNDPLAN_DATA") else 0)


def test_the_second_notebook_trains_on_two_instances(cloud: LocalCloud, trained: dict[str, Any]) -> None:
    job = client(cloud, "sagemaker").describe_training_job(TrainingJobName=trained["job"])
    assert job["TrainingJobStatus"] == "Completed"
    assert job["ResourceConfig"]["InstanceCount"] == 2
    # it saw every row but those kept back, grew the trees it was asked for, and told its metrics
    assert trained["seen"] + trained["unseen"] == 20_640
    assert trained["final"]["rows:pulled"] == trained["seen"]
    assert trained["trees"] == ROUNDS
    assert trained["final"]["validation:rmse"] > 0


def test_the_sdk_reports_nothing_about_its_use(trained: dict[str, Any]) -> None:
    assert trained["defaults"]["SageMaker"]["PythonSDK"]["Modules"]["TelemetryOptOut"] is True


def test_its_endpoint_answers_for_blocks_that_training_never_saw(trained: dict[str, Any]) -> None:
    assert trained["answers"] == trained["unseen"] > 1_500
    # twenty trees are few, and yet far better than to say the mean
    assert trained["rmse"] < 0.7 * trained["guess"]


def test_it_leaves_only_the_model_behind(cloud: LocalCloud, trained: dict[str, Any]) -> None:
    sagemaker = client(cloud, "sagemaker")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
    assert set(tables(cloud)) == {"CALIFORNIA_HOUSING"}


def test_the_notebooks_role_trains_under_its_own_names_only(
    cloud: LocalCloud, scientist: DataScientist
) -> None:
    # given the data scientist's credentials; when they touch the endpoint that is in service
    keys = scientist.environment
    own = boto3.client(
        "sagemaker",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys["AWS_SESSION_TOKEN"],
    )
    # then IAM refuses
    with pytest.raises(ClientError, match="sagemaker:DeleteEndpoint"):
        own.delete_endpoint(EndpointName=STACK)
