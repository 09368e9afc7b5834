"""`evaluate`: compare a candidate and a champion on the same days, to which neither was fitted.

/opt/ml/processing/history/LOCATION.csv
/opt/ml/processing/candidate/model.tar.gz
/opt/ml/processing/champion/model.tar.gz      optional
/opt/ml/processing/output/evaluation.json     the result
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import sagemaker
from toolkit.archive import ArchiveError, unpack
from toolkit.failure import FatalError

from . import judging, locations, measures, naive, trained
from .history import EPOCH
from .judging import Judged
from .locations import Location
from .storage import Asset, asset_of
from .trained import JUDGED, Trained

log = logging.getLogger(__name__)

FOLDER = sagemaker.BASE / "processing"
MODEL = "model.tar.gz"
LEAST_DAYS = 7
TOLERATED = 0.02
"""A candidate is rejected if the 95 % interval of its loss minus the champion's loss is entirely above this
limit.

In an evaluation of two weeks, the block bootstrap has only two blocks, and its intervals are too narrow. With
0 as this limit, candidates that are no worse would therefore be rejected."""


def main(arguments: list[str]) -> None:
    """Write the comparison. Raises `FatalError`."""
    parser = argparse.ArgumentParser(
        prog="python -m power_forecaster evaluate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--floor", type=float, default=0.0, help="minimum capture of an accepted candidate (default: 0)"
    )
    floor = parser.parse_args(arguments).floor
    with tempfile.TemporaryDirectory() as scratch:
        candidate = _unpacked("candidate", Path(scratch))
        if candidate is None:
            raise FatalError(f"folder candidate must have a file {MODEL}")
        champion, problem = champion_of(candidate, Path(scratch))
        column = candidate.card["settings"]["price_column"]
        given = locations.read(FOLDER / "history", column, candidate.zone)
        found = compared(given, candidate, champion, floor, problem)
    sagemaker.write_json(FOLDER / "output" / "evaluation.json", found)
    log.info("candidate:capture=%.4f", found["capture"]["candidate"])
    log.info("candidate:loss=%.4f", found["loss"]["candidate"])
    log.info("accepted=%d: %s", found["accepted"], found["reason"])


def _unpacked(side: str, scratch: Path) -> Trained | None:
    archive = FOLDER / side / MODEL
    if not archive.is_file():
        return None
    try:
        unpack(archive, scratch / side)
    except ArchiveError as error:
        raise FatalError(f"could not unpack the {side}'s {MODEL}: {error}") from None
    return trained.read(scratch / side, side)


def champion_of(candidate: Trained, scratch: Path) -> tuple[Trained | None, str]:
    """Return the champion, or None and the reason why the candidate cannot be compared with it.

    The reason is empty if there is no champion.
    """
    try:
        champion = _unpacked("champion", scratch)
        if champion is None:
            return None, ""
        if champion.zone != candidate.zone:
            raise FatalError(f"the champion's zone must be {candidate.zone}, got {champion.zone}")
        if missing := sorted(set(candidate.locations) - set(champion.locations)):
            raise FatalError(
                f"the champion must have all locations of the candidate; missing: {', '.join(missing)}"
            )
    except FatalError as error:  # for example, an earlier version trained the champion with another network
        log.warning("not compared: %s", error)
        return None, str(error)
    return champion, ""


def compared(
    given: dict[str, Location],
    candidate: Trained,
    champion: Trained | None,
    floor: float,
    not_compared: str = "",
) -> dict[str, Any]:
    """Return the comparison on the days to which neither model was fitted, as JSON.

    Days on which a price or a forecast is missing are omitted. Raises `FatalError` if fewer than `LEAST_DAYS`
    remain.

    :param not_compared: why the candidate cannot be compared with an existing champion; otherwise empty
    """
    missing = sorted(set(candidate.locations) - set(given))
    if missing:
        raise FatalError(f"history must have all locations of the candidate; missing: {', '.join(missing)}")
    naive_only = [
        f"{location}/{name}"
        for location, fits in sorted(candidate.locations.items())
        for name, fit in fits.items()
        if fit.naive_only
    ]
    for each in naive_only:
        log.warning("the fit %s has weights on naive forecasts only", each)
    asset = asset_of(candidate.card["settings"]["asset"], "asset")
    models = {"candidate": candidate} | ({"champion": champion} if champion else {})
    begin, end = _days(given, candidate, champion)
    by_location = {
        name: _judged(given[name], name, models, asset, begin, end) for name in sorted(candidate.locations)
    }
    names = list(next(iter(by_location.values())))
    pooled = {name: judging.pooled([each[name] for each in by_location.values()]) for name in names}
    known = judging.known(pooled.values())
    if known.sum() < LEAST_DAYS:
        raise FatalError(
            f"history must have at least {LEAST_DAYS} market days that no model was fitted to,"
            f" got {known.sum()}"
        )
    naive_names = [name for name in names if name not in models]
    best = max(naive_names, key=lambda name: pooled[name].dollars[known].sum())
    found = _summary(pooled, known, best)
    accepted, reason = verdict(found, floor, not_compared)
    return found | {
        "months": _months(pooled, known, best, begin),
        "days": int(known.sum()),
        "first": date.fromordinal(EPOCH + begin).isoformat(),
        "floor": floor,
        "best_naive": best,
        "naive_only": naive_only,
        "accepted": accepted,
        "reason": reason,
        "locations": {
            name: _summary(each, judging.known(each.values()), best) for name, each in by_location.items()
        },
    }


def _days(given: dict[str, Location], candidate: Trained, champion: Trained | None) -> tuple[int, int]:
    """Return the evaluation's first day and the day after its last day, in days since 1970-01-01.

    The first day is the earliest for which each model has, at all locations, a fit to earlier days only. The
    last day is the latest up to which the histories of all locations have prices.
    """
    begins, ends = [], []
    for name in candidate.locations:
        begins.append(candidate.locations[name][JUDGED].before)
        if champion:
            begins.append(min(fit.before for fit in champion.locations[name].values()))
        ends.append(int(given[name].panel.days.dates[given[name].end - 1]) + 1)
    return max(begins), min(ends)


def _judged(
    location: Location, name: str, models: dict[str, Trained], asset: Asset, begin: int, end: int
) -> dict[str, Judged]:
    first, last = (int(each) for each in np.searchsorted(location.panel.days.dates, [begin, end]))
    forecasts = {
        side: judging.forecasts_by(model, name, location.panel, first, last) for side, model in models.items()
    }
    forecasts |= naive.naive(location.panel.prices)
    return {side: judging.judged(location, each, asset, first, last) for side, each in forecasts.items()}


def _summary(judged: dict[str, Judged], known: Any, best: str) -> dict[str, Any]:
    ours = judged["candidate"]
    capture = asdict(measures.capture(ours.dollars[known], ours.foresight[known]))
    theirs = judged.get("champion")
    days = np.ones(int(known.sum()))
    worse = asdict(measures.difference(ours.loss[known], theirs.loss[known], days)) if theirs else None
    return {
        "capture": {
            "candidate": capture["value"],
            "low": capture["low"],
            "high": capture["high"],
            "best_naive": judged[best].capture(known),
            "champion": theirs.capture(known) if theirs else None,
        },
        "loss": {
            "candidate": float(ours.loss[known].mean()),
            "best_naive": float(judged[best].loss[known].mean()),
            "champion": float(theirs.loss[known].mean()) if theirs else None,
            "over_champion": worse,
        },
    }


def _months(judged: dict[str, Judged], known: Any, best: str, begin: int) -> list[dict[str, Any]]:
    """Return the captures of each calendar month. `known` selects days; its first element is day `begin`."""
    month = (np.datetime64("1970-01-01") + begin + np.arange(len(known))).astype("datetime64[M]")
    return [
        {
            "month": str(each),
            "days": int((within := known & (month == each)).sum()),
            "candidate": judged["candidate"].capture(within),
            "best_naive": judged[best].capture(within),
        }
        for each in np.unique(month[known])
    ]


def verdict(found: dict[str, Any], floor: float, not_compared: str = "") -> tuple[bool, str]:
    """Return whether a candidate may be deployed, and why.

    :param not_compared: why the candidate cannot be compared with an existing champion; otherwise empty. If
        it is not empty, the candidate is compared with the best naive forecast instead, and rejected if the
        whole interval of its capture is below that forecast's capture.
    """
    capture, loss = found["capture"]["candidate"], found["loss"]
    if capture < floor:
        return False, f"capture must be at least {floor:g}, got {capture:.4f}"
    if not_compared:
        best = found["capture"]["best_naive"]
        if found["capture"]["high"] < best:
            return False, f"capture {capture:.4f} is below the best naive forecast's {best:.4f}"
        return True, f"not compared: {not_compared}"
    worse = loss["over_champion"]
    if worse and worse["low"] > TOLERATED:
        return False, f"loss {loss['candidate']:.4f} is above the champion's {loss['champion']:.4f}"
    return True, "no worse than the champion" if worse else "no champion"
