"""The variants of the AWS sample's problem by name: rules, prices, and accounting."""

from __future__ import annotations

from dataclasses import dataclass, replace

from toolkit.failure import FatalError

from .market import Curves, source_curves
from .rules import Asset, Cap, CashFloor, Rules

ASSETS = (
    Asset("1", lot=10, buy_fee=0.03, sell_fee=0.025),
    Asset("2", lot=10, buy_fee=0.045, sell_fee=0.035),
    Asset("3", lot=10, buy_fee=0.035, sell_fee=0.03),
)

CORRECTED = Rules(
    ASSETS,
    (  # C1 to C4 are the sample's constraints; C1, no short sales, always holds
        Cap(("3",), 1 / 3, "before"),  # C2
        Cap(("2",), 2 / 3, "before"),  # C3
        CashFloor(1, "before"),  # C4
    ),
)
STRICT = replace(
    CORRECTED,
    constraints=(Cap(("3",), 1 / 3, "both"), Cap(("2",), 2 / 3, "both"), CashFloor(1, "before")),
)


@dataclass(frozen=True)
class Variant:
    """A problem: rules and prices."""

    name: str
    rules: Rules
    market: Curves
    faithful: bool = False
    """Whether the accounting and mask of the AWS sample are used, including its faults (`published.py`)."""


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("published", CORRECTED, source_curves(first_is_on_the_curve=False), faithful=True),
        Variant("corrected", CORRECTED, source_curves()),
        Variant("strict", STRICT, source_curves()),
    )
}


def variant(name: str) -> Variant:
    """Return a variant by its name. Raises `FatalError` if no variant has this name."""
    if name not in VARIANTS:
        raise FatalError(f"variant must be one of {', '.join(VARIANTS)}, got {name!r}")
    return VARIANTS[name]
