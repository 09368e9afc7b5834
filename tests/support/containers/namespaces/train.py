# ruff: noqa: F401 - the code in the hyperparameter may use these modules
"""Run the code in the hyperparameter `script`, with SageMaker's configuration in variables."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

CONFIG = pathlib.Path("/opt/ml/input/config")
MODEL = pathlib.Path("/opt/ml/model")

hyperparameters = json.loads((CONFIG / "hyperparameters.json").read_text())
resources = json.loads((CONFIG / "resourceconfig.json").read_text())
host, hosts = resources["current_host"], resources["hosts"]
exec(hyperparameters["script"])  # noqa: S102 - code of the test itself
