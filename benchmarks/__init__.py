"""Benchmarks against the published solution of the same problem, in a package per architecture.

Each package lists in `BENCHMARKS` the modules that `python -m benchmarks` runs.
"""

import sys
from pathlib import Path

# some benchmarks import the code of the Lambda functions
sys.path.append(str(Path(__file__).resolve().parents[1] / "runtime"))
