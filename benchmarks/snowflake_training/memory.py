"""The memory that one pull takes, in a process of its own.

    python -m benchmarks.snowflake_training.memory ours|sample TABLE TARGET CONNECTION

From the connection to the matrices that XGBoost trains on. Prints two numbers, in MiB: resident memory
once everything is imported, and the most there was from then on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from snowflake_xgboost.connection import connect


def resident(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most since the last reset) of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main(scheme: str, table: str, target: str, connection: str) -> None:
    session = connect(json.loads(Path(connection).read_text()))
    # Only what the scheme itself needs is imported: pandas is a cost of the sample's, not of ours.
    if scheme == "ours":
        from benchmarks.snowflake_training import our_scheme

        def pull() -> object:
            wanted = our_scheme.settings(table, target)
            seen, preparation = our_scheme.look(session, wanted)
            with tempfile.TemporaryDirectory() as folder:
                batches = our_scheme.part(session, seen, preparation, 0, 1)
                return our_scheme.share(batches, preparation, Path(folder)).matrices(wanted.nthread)
    else:
        from benchmarks.snowflake_training import sample_scheme

        def pull() -> object:
            train, validation = sample_scheme.split(sample_scheme.draw(session, table, 1), 0.2, 0)
            return sample_scheme.matrix(train, target), sample_scheme.matrix(validation, target)

    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
    matrices = pull()
    print(before, resident("VmHWM"))
    del matrices
    session.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
