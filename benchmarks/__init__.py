"""Benchmarks that compare each architecture with the published solution of its problem.

Each architecture has a package, whose `BENCHMARKS` lists the modules that `python -m benchmarks` runs.
"""

import sys
from pathlib import Path

# some benchmarks import the code of the Lambda functions
sys.path.append(str(Path(__file__).resolve().parents[1] / "runtime"))
