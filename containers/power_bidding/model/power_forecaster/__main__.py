"""The commands of the image."""

from __future__ import annotations

import sys

from . import backtest

COMMANDS = {"backtest": backtest.main}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: python -m power_forecaster {'|'.join(COMMANDS)} ...", file=sys.stderr)  # noqa: T201
        return 2
    return COMMANDS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
