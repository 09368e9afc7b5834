"""Measure the memory of one pull of a table, in a separate process.

    python -m benchmarks.snowflake_training.memory ours|sample TABLE TARGET CONNECTION

A pull is everything from the query to the matrices on which XGBoost trains. Prints two numbers in MiB: the
resident memory after the imports, and the maximum after that.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from snowflake_xgboost.connection import connect


def resident(field: str) -> float:
    """Return `VmRSS` (the resident memory) or `VmHWM` (its maximum since the last reset) of this process in
    MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main(scheme: str, table: str, target: str, connection: str) -> None:
    session = connect(json.loads(Path(connection).read_text()))
    # Import only the modules that the scheme needs: only the AWS sample's scheme needs pandas.
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
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    matrices = pull()
    print(before, resident("VmHWM"))
    del matrices
    session.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
