"""Run notebooks as a data scientist does: all cells, in the notebooks' environment, under the role of the
stack's notebook instance."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.cloud import LocalCloud
from tests.support.clouds import client
from tooling import envs

NEVER = 540
"""Maximum seconds of a notebook. Cells have no separate limit, which a busy machine would exceed."""

HASTE = """
import time
real = time.sleep
time.sleep = lambda seconds: real(min(seconds, 0.5))
"""
"""Code that shortens the polling interval of SageMaker's SDK. The SDK's interval is five seconds, which is
longer than local jobs take."""

EXECUTE = (
    f"haste = {HASTE!r}"
    + """
import sys
import nbformat
from nbclient import NotebookClient

path, wanted = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
notebook.cells.insert(0, nbformat.v4.new_code_cell(haste))
notebook.cells.append(nbformat.v4.new_code_cell(f"import json\\nprint(json.dumps(dict({wanted})))"))
client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": "."}})
client.execute()
print("".join(output["text"] for output in notebook.cells[-1]["outputs"]))  # a text may come in pieces
"""
)
"""Program that runs a notebook, then prints the wanted variables of the notebook's kernel as JSON in the last
line."""


@dataclass(frozen=True)
class DataScientist:
    """A user of a stack's notebook instance."""

    folder: Path
    """Folder of the notebooks."""
    environment: dict[str, str]
    credentials: dict[str, str]
    """Credentials of the instance's role as arguments of boto3."""

    def run(self, notebook: str, wanted: str) -> dict[str, Any]:
        """Run every cell; then evaluate `dict(WANTED)` in the kernel, where WANTED is the text `wanted`, and
        return the dict."""
        done = subprocess.run(
            [str(envs.environment("notebooks")), "-c", EXECUTE, f"{notebook}.ipynb", wanted],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=NEVER,
            check=False,
        )
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).strip()
        assert done.returncode == 0, said.splitlines()[-1] + "\n" + said[-4000:]
        return json.loads(done.stdout.strip().splitlines()[-1])


def data_scientist(cloud: LocalCloud, stack: str, folder: Path, **environment: str) -> DataScientist:
    """Return the data scientist of a deployed stack. `environment`: additional variables of notebooks."""
    instance = client(cloud, "sagemaker").describe_notebook_instance(NotebookInstanceName=stack)
    session = client(cloud, "sts").assume_role(RoleArn=instance["RoleArn"], RoleSessionName="SageMaker")
    keys = {
        "AWS_ACCESS_KEY_ID": session["Credentials"]["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["Credentials"]["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["Credentials"]["SessionToken"],
    }
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GROUNDPLAN_"))}
    own |= cloud.env() | keys | {"GROUNDPLAN_STACK": stack} | environment
    # Removed, because notebooks must read the connection from the stack's secret and not from a file
    own.pop("GROUNDPLAN_SNOWFLAKE", None)
    if data := os.environ.get("GROUNDPLAN_DATA"):
        own["GROUNDPLAN_DATA"] = str(Path(data).expanduser().resolve())
    return DataScientist(folder, own, {name.lower(): value for name, value in keys.items()})
