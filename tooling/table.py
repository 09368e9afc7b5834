"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def print_table(
    rows: Sequence[Sequence[object]], heads: Sequence[str] = (), left: Collection[int] = (0,)
) -> None:
    """Print rows in columns. Columns with an index in `left` are left-aligned, the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in ([heads] if heads else []) + list(rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(padded).rstrip(), flush=True)
