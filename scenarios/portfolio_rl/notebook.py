"""Execution of the data scientist's notebook with the deployed stack."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from scenarios import Progress, ScenarioError, Story
from tooling import envs

NOTEBOOK = envs.ROOT / "notebooks" / "portfolio_rl" / "trade.ipynb"
LONGEST = 1800
"""Timeout in seconds."""
HELD_OUT = 10_000
"""Number of episodes on which the notebook compares policies."""
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

path, out = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": "."}})
try:
    client.execute()
finally:
    nbformat.write(notebook, out)
print(sum(cell.cell_type == "code" for cell in notebook.cells))
"""


def execute(stack: str, out: Path, progress: Progress) -> tuple[Path, Story]:
    """Execute the notebook. Return the path of the executed notebook, and a story for the report.

    Raises `ScenarioError` with the error of the cell that failed. The executed notebook is written even then.
    """
    progress(f"executing notebooks/portfolio_rl/{NOTEBOOK.name}")
    path, begun = out / NOTEBOOK.name, time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    own = {"GROUNDPLAN_STACK": stack, "GROUNDPLAN_HELD_OUT": str(HELD_OUT)}
    try:
        done = subprocess.run(
            [str(envs.environment("notebooks")), "-c", EXECUTE, str(NOTEBOOK), str(path.resolve())],
            cwd=NOTEBOOK.parent,
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise ScenarioError(f"the notebook did not finish within {LONGEST} s") from None
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).strip().splitlines() or ["no error output"]
        raise ScenarioError(f"a cell of the notebook failed: {said[-1]}; see {path}")
    return path, Story(
        "The notebook",
        f"All {done.stdout.split()[-1]} cells of notebooks/portfolio_rl/{NOTEBOOK.name} were executed. They"
        " ran two training jobs and an endpoint of their own.",
        f"It took {time.monotonic() - begun:.0f} s. {path.name} has the tables and pictures.",
    )
