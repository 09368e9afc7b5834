"""Assets, fees and constraints of orders, as data.

    {
      "cash": 1000,
      "largest_order": 5,
      "assets": [{"name": "A", "lot": 10, "buy_fee": 0.03, "sell_fee": 0.025}, ...],
      "constraints": [
        {"kind": "cap", "assets": ["C"], "share": 0.25, "checked": "both"},
        {"kind": "turnover", "share": 0.5},
        {"kind": "cash_floor", "dollars": 50, "checked": "after"},
        {"kind": "no_trade", "assets": ["B"], "sides": ["buy"]}
      ]
    }

An order has one leg for each asset: a number of lots from `-largest_order` (sell) to `largest_order` (buy).
Sales are executed before purchases, each in the order of the assets, so sales can pay for purchases. It is
always required that no leg sells more than the account has, that the value of a sale exceeds its fee, and
that cash covers the purchases. No constraint forces a trade. The order without a trade is therefore always
admissible.

The first legs of an order, sales before purchases, are a prefix of the order. An order is admissible if and
only if each of its prefixes is admissible: a sale adds cash and turnover, and no cap forbids it; a purchase
adds to the turnover and to the shares of the asset's groups, and reduces cash and, by its fee, the total
value. Masks that are computed leg by leg therefore allow exactly the admissible orders, for any number of
assets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from toolkit.failure import FatalError

Checked = Literal["before", "after", "both"]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Asset:
    """An asset and its trading costs."""

    name: str
    lot: int = 10
    """Units in a lot."""
    buy_fee: float = 0.0
    """Dollars for each unit bought."""
    sell_fee: float = 0.0
    """Dollars for each unit sold."""
    buy_rate: float = 0.0
    """Share of the value bought, in addition to `buy_fee`."""
    sell_rate: float = 0.0
    """Share of the value sold, in addition to `sell_fee`."""


@dataclass(frozen=True)
class Cap:
    """These assets are not bought if their combined share of the total value is above `share`.

    The share is checked before the order (`before`), after it (`after`), or at both times (`both`).
    """

    assets: tuple[str, ...]
    share: float
    checked: Checked = "both"


@dataclass(frozen=True)
class Turnover:
    """The value traded by one order is at most this share of the total value before the order."""

    share: float


@dataclass(frozen=True)
class CashFloor:
    """Nothing is bought if cash is less than `dollars`.

    Cash is checked before the order (`before`), after it (`after`), or at both times (`both`).
    """

    dollars: float
    checked: Checked = "both"


@dataclass(frozen=True)
class NoTrade:
    """Purchases (`buy`), sales (`sell`) or both are forbidden for these assets."""

    assets: tuple[str, ...]
    sides: tuple[Literal["buy", "sell"], ...] = ("buy", "sell")


Constraint = Cap | Turnover | CashFloor | NoTrade
KINDS: dict[str, type[Constraint]] = {
    "cap": Cap,
    "turnover": Turnover,
    "cash_floor": CashFloor,
    "no_trade": NoTrade,
}
LARGEST_ORDER = 50
MOST_ASSETS = 100
MOST_CONSTRAINTS = 1000
LONGEST_NAME = 100


class Compiled(NamedTuple):
    """The rules as arrays, for compiled code.

    There are N assets, G groups of assets whose cap is checked before the order, and H after it.
    """

    largest: int
    lot: Floats
    """[N] units in a lot."""
    buy_fee: Floats
    sell_fee: Floats
    buy_rate: Floats
    sell_rate: Floats
    buy_allowed: Flags
    """[N] false if a constraint of the kind `no_trade` forbids buying the asset."""
    sell_allowed: Flags
    before: Flags
    """[G, N] members of each group with a cap checked before the order."""
    before_share: Floats
    after: Flags
    """[H, N] members of each group with a cap checked after the order."""
    after_share: Floats
    cash_before: float
    """Minimum cash in dollars before an order with purchases."""
    cash_after: float
    """Minimum cash in dollars after an order with purchases."""
    turnover: float
    faithful: bool
    """Whether orders are masked and executed as in the AWS sample (`published.py`)."""


@dataclass(frozen=True)
class Rules:
    """Assets, start capital and constraints."""

    assets: tuple[Asset, ...]
    constraints: tuple[Constraint, ...] = ()
    cash: float = 1000.0
    """Dollars at the start of an episode."""
    largest_order: int = 5
    """Maximum number of lots in a leg."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(asset.name for asset in self.assets)

    def compiled(self, faithful: bool = False) -> Compiled:
        """Return the rules as arrays."""
        floors = [each for each in self.constraints if isinstance(each, CashFloor)]
        caps = [each for each in self.constraints if isinstance(each, Cap)]
        bans = [each for each in self.constraints if isinstance(each, NoTrade)]
        before = [cap for cap in caps if cap.checked != "after"]
        after = [cap for cap in caps if cap.checked != "before"]

        def column(name: str) -> Floats:
            return np.array([getattr(asset, name) for asset in self.assets], np.float64)

        def members(groups: list[Cap]) -> Flags:
            rows = [[name in cap.assets for name in self.names] for cap in groups]
            return np.array(rows, np.bool_).reshape(len(groups), len(self.assets))

        def allowed(side: str) -> Flags:
            banned = {name for ban in bans if side in ban.sides for name in ban.assets}
            return np.array([name not in banned for name in self.names], np.bool_)

        def floor(moment: str, least: float) -> float:
            # always a float, because compiled code is specific to the types of its arguments
            return float(max([least, *(each.dollars for each in floors if each.checked in (moment, "both"))]))

        turnovers = [each.share for each in self.constraints if isinstance(each, Turnover)]
        return Compiled(
            largest=self.largest_order,
            lot=column("lot"),
            buy_fee=column("buy_fee"),
            sell_fee=column("sell_fee"),
            buy_rate=column("buy_rate"),
            sell_rate=column("sell_rate"),
            buy_allowed=allowed("buy"),
            sell_allowed=allowed("sell"),
            before=members(before),
            before_share=np.array([cap.share for cap in before], np.float64),
            after=members(after),
            after_share=np.array([cap.share for cap in after], np.float64),
            cash_before=floor("before", -inf),
            cash_after=floor("after", 0.0),
            turnover=float(min([inf, *turnovers])),
            faithful=faithful,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the rules in the format of the JSON file."""
        kinds = {kind: name for name, kind in KINDS.items()}
        return {
            "cash": self.cash,
            "largest_order": self.largest_order,
            "assets": [asdict(asset) for asset in self.assets],
            "constraints": [{"kind": kinds[type(each)], **asdict(each)} for each in self.constraints],
        }


def read(path: Path) -> Rules:
    """Read rules from a JSON file. Raises `FatalError` that names the field and what is allowed."""
    try:
        return parse(json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_once))
    except (OSError, ValueError) as error:
        raise FatalError(f"{path.name} must be a JSON file with rules: {error}") from None
    except RecursionError:
        raise FatalError(
            f"{path.name} must be a JSON file with rules: its values are nested too deeply"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's fields; reject duplicate names, of which `json` would keep only the last."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {shortened(name)!r} occurs twice in an object")
        found[name] = value
    return found


def parse(given: Any) -> Rules:
    """Return the rules in `given`, which has the format of the module's example.

    Raises `FatalError` for an invalid value.
    """
    _known(given, "rules", [each.name for each in fields(Rules)], required=("assets",))
    rows = _list(given["assets"], "assets")
    if not 1 <= len(rows) <= MOST_ASSETS:
        raise FatalError(f"assets must be a list of 1 to {MOST_ASSETS} assets, got {len(rows)}")
    assets = tuple(_asset(row, f"assets[{index}]") for index, row in enumerate(rows))
    names = [asset.name for asset in assets]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise FatalError(f"assets[{index}].name must differ from the other names, got {name!r}")
    listed = _list(given.get("constraints", []), "constraints")
    if len(listed) > MOST_CONSTRAINTS:
        raise FatalError(f"there must be at most {MOST_CONSTRAINTS} constraints, got {len(listed)}")
    return Rules(
        assets,
        tuple(_constraint(row, f"constraints[{index}]", names) for index, row in enumerate(listed)),
        _number(given.get("cash", Rules.cash), "cash", 0, 1e12, above=True),
        _whole(given.get("largest_order", Rules.largest_order), "largest_order", 1, LARGEST_ORDER),
    )


def _asset(row: Any, where: str) -> Asset:
    _known(row, where, [each.name for each in fields(Asset)], required=("name",))
    name = row["name"]
    if not isinstance(name, str) or not name.strip():
        raise FatalError(f"{where}.name must be a non-empty string, got {_shown(name)}")
    if name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise FatalError(
            f"{where}.name must have up to {LONGEST_NAME} printable characters and no space at its start or"
            f" end, got {_shown(name)}"
        )
    return Asset(
        name,
        _whole(row.get("lot", Asset.lot), f"{where}.lot", 1, 1_000_000),
        **{
            name: _number(row.get(name, 0), f"{where}.{name}", 0, most)
            for name, most in (("buy_fee", 1e6), ("sell_fee", 1e6), ("buy_rate", 0.5), ("sell_rate", 0.5))
        },
    )


def _constraint(row: Any, where: str, names: list[str]) -> Constraint:
    found = row.get("kind") if isinstance(row, Mapping) else row
    if not isinstance(row, Mapping) or not isinstance(found, str) or found not in KINDS:
        raise FatalError(f"{where}.kind must be one of {', '.join(KINDS)}, got {_shown(found)}")
    kind = KINDS[found]
    known = [each.name for each in fields(kind)]
    required = [name for name in known if name not in ("checked", "sides")]
    _known(row, where, ["kind", *known], required)
    values: dict[str, Any] = {}
    if "share" in known:
        values["share"] = _number(row["share"], f"{where}.share", 0, 1 if kind is Cap else 100, above=True)
    if "dollars" in known:
        values["dollars"] = _number(row["dollars"], f"{where}.dollars", 0, 1e12)
    if "assets" in known:
        values["assets"] = _some(row["assets"], f"{where}.assets", names)
    if "sides" in known:
        values["sides"] = _some(row.get("sides", NoTrade.sides), f"{where}.sides", ("buy", "sell"))
    if "checked" in known:
        values["checked"] = _one(row.get("checked", "both"), f"{where}.checked", ("before", "after", "both"))
    return kind(**values)


def _known(row: Any, where: str, known: Iterable[str], required: Iterable[str]) -> None:
    if not isinstance(row, Mapping):
        raise FatalError(f"{where} must be an object, got {_shown(row)}")
    if unknown := [name for name in row if name not in known]:
        raise FatalError(f"{where}.{shortened(unknown[0])} is unknown, must be one of {', '.join(known)}")
    for name in required:
        if name not in row:
            raise FatalError(f"{where}.{name} is missing")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise FatalError(f"{where} must be a list, got {_shown(value)}")
    return list(value)


def _number(value: Any, where: str, least: float, most: float, above: bool = False) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)  # NaN is in no interval
    if not good or not (least < value <= most or (value == least and not above)):
        start = "above" if above else "from"
        raise FatalError(
            f"{where} must be a number {start} {least:g} and up to {most:g}, got {_shown(value)}"
        )
    return float(value)


def _whole(value: Any, where: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise FatalError(f"{where} must be a whole number from {least} to {most}, got {_shown(value)}")
    return value


def _one(value: Any, where: str, allowed: Iterable[str]) -> Any:
    if value not in tuple(allowed):
        raise FatalError(f"{where} must be one of {shortened(', '.join(allowed))}, got {_shown(value)}")
    return value


def _some(value: Any, where: str, allowed: Iterable[str]) -> tuple[Any, ...]:
    chosen = _list(value, where)
    if not chosen:
        raise FatalError(f"{where} must name at least one of {shortened(', '.join(allowed))}")
    for index, each in enumerate(chosen):
        _one(each, f"{where}[{index}]", allowed)
        if each in chosen[:index]:
            raise FatalError(f"{where}[{index}] must differ from earlier entries, got {_shown(each)}")
    return tuple(chosen)


def _shown(value: Any) -> str:
    return shortened(repr(value))


def shortened(text: str, most: int = 100) -> str:
    """Return at most `most` characters of a user's text, for an error."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
