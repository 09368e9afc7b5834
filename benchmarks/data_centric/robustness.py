"""Training on subsets of MNIST with 20 % wrong training labels, and with class sizes in the ratio 10 : 1.

    .groundplan/envs/app/bin/python -m benchmarks.data_centric.robustness --json out/robustness.json

Makes the tables of `benchmarks.data_centric.selection` for the conditions in the GLISTER paper.
"""

from __future__ import annotations

import sys

from benchmarks.data_centric import inside
from benchmarks.data_centric.selection import parser, resolved

CONDITIONS = ("wrong labels", "rare classes")
COMPARED = ("full", "adaptive_random", "glister", "glister_published", "fewer_epochs")


def main(arguments: list[str] | None = None) -> int:
    options = parser("robustness", __doc__, seeds=5, compared=COMPARED).parse_args(arguments)
    return inside.run("selection_table", resolved(options) | {"conditions": list(CONDITIONS)})


if __name__ == "__main__":
    sys.exit(main())
