"""The measurements of `benchmarks.personalization.quality`, which run in a separate Python environment."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import stats

from personalization_finetune import base, images, learner
from personalization_finetune.settings import Settings
from scenarios import Metric
from scenarios.personalization import pictures
from scenarios.personalization.training import HYPERPARAMETERS

RATES = {
    ("lora", "muon"): (5e-3, 1e-2, 2e-2),
    ("lora", "adamw"): (2e-3, 4e-3, 8e-3),
    ("full", "muon"): (1.5e-3, 3e-3, 6e-3, 1.2e-2),
    ("full", "adamw"): (5e-4, 1e-3, 2e-3),
}
"""Candidate learning rates by method and optimizer. The rate is chosen on the subject
`pictures.SPARE`, for which no figure is reported."""

METHODS = "lora", "full"

USUAL = "full", "adamw"
"""The usual full fine-tune. It is measured even if another optimizer is better for full fine-tunes."""

LEVELS, REPEATS = 64, 1
"""Number of evenly spaced noise levels at which the held-out loss is measured, and number of draws of noise
per level and picture."""

METRICS = [
    Metric("adapter_size_ratio", "bytes of the full copy divided by bytes of the adapter", "", "higher", 15),
    Metric(
        "quality_ratio",
        "LoRA's gain in held-out loss divided by the full fine-tune's, each with its best optimizer and rate",
        "",
        "higher",
        0.95,
    ),
    Metric("quality_ratio_adamw", "the same ratio if the full fine-tune uses AdamW, as usual", "", "higher"),
    Metric("seconds_ratio", "seconds of LoRA's steps divided by the full fine-tune's"),
]


@dataclass(frozen=True)
class FineTune:
    """A fine-tune to measure: user, subject, method, optimizer, rate and seed."""

    user: str
    subject: str
    method: str
    optimizer: str
    rate: float
    seed: int
    steps: int
    folder: str
    base: str
    drawn: bool = False


@dataclass(frozen=True)
class FineTuneResult:
    """Result of a fine-tune. `before` and `after` are held-out losses; `bytes` is the size of the user's
    files."""

    before: float
    after: float
    seconds: float
    bytes: int
    pictures: tuple[Any, ...] = ()

    @property
    def gain(self) -> float:
        return self.before - self.after


def say(line: str) -> None:
    print(line, flush=True)


@cache
def loaded(folder: str) -> base.Base:
    torch.set_num_threads(1)
    return base.load(Settings(threads=1), Path(folder))


def held_out(model: learner.Learner, latents: torch.Tensor, words: torch.Tensor) -> float:
    """Return the denoiser's mean squared error on held-out pictures, with the same noise for all models."""
    random = torch.Generator().manual_seed(12345)
    at = ((torch.arange(LEVELS) + 0.5) / LEVELS * model.noise.config.num_train_timesteps).long()
    found = []
    with torch.no_grad():
        for _ in range(REPEATS):
            for latent in latents:
                noise = torch.randn(LEVELS, *latent.shape, generator=random)
                clean = latent.expand(LEVELS, -1, -1, -1)
                found.append(model.errors(clean, noise, at, words.expand(LEVELS, -1, -1)).mean().item())
    return statistics.fmean(found)


def fine_tune(work: FineTune) -> FineTuneResult:
    origin = loaded(work.base)
    settings = dataclasses.replace(
        Settings.read(HYPERPARAMETERS),
        method=work.method,
        optimizer=work.optimizer,
        learning_rate=work.rate,
        steps=work.steps,
    )
    folder = Path(work.folder)
    model = learner.Learner(origin, settings, work.seed)

    def latents(part: str, count: int) -> torch.Tensor:
        names = tuple(sorted(path.name for path in (folder / part / work.user).iterdir()))
        found = images.read(folder / part / work.user, names)
        made = images.variants(found, count, origin.resolution, np.random.default_rng(work.seed))
        return model.encode(made)

    learned, unseen = latents("uploads", settings.variants), latents("unseen", 1)
    prior = learner.prior_latents(model, work.subject, folder / "prior")
    model.begin()
    with torch.no_grad():
        own = model.embed(f"a photo of sks {work.subject}")
        general = model.embed(f"a photo of a {work.subject}")

    def words(subjects: int, priors: int) -> torch.Tensor:
        return torch.cat([own.expand(subjects, -1, -1), general.expand(priors, -1, -1)])

    before = held_out(model, unseen, own)
    started = time.process_time()
    for step in range(work.steps):
        model.learn(step, work.steps, learned, prior, words)
    seconds = time.process_time() - started
    with tempfile.TemporaryDirectory() as kept:
        model.save(Path(kept))
        size = sum(path.stat().st_size for path in Path(kept).rglob("*") if path.is_file())
    prompt = f"a photo of sks {work.subject}"
    drawn = model.generate(prompt, work.seed, 4) if work.drawn else []
    shown = tuple(np.asarray(picture) for picture in drawn)
    return FineTuneResult(before, held_out(model, unseen, own), seconds, size, shown)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the mean of at least two values, and its 95 % interval by Student's t."""
    mean = statistics.fmean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def chosen(
    pool: ProcessPoolExecutor, options: argparse.Namespace, folder: Path
) -> dict[tuple[str, str], float]:
    """Return the best learning rates: of each method with its best optimizer, and of the usual full
    fine-tune.

    The rates are chosen on the subject `pictures.SPARE`, with a seed that is not used for the figures."""
    (user, (subject, *_)), *_ = pictures.SPARE.items()
    works = [
        FineTune(user, subject, *way, rate, 1000, options.steps, str(folder), str(options.base))
        for way, rates in RATES.items()
        for rate in rates
    ]
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for work, result in zip(works, pool.map(fine_tune, works), strict=True):
        way = work.method, work.optimizer
        told = f"{result.before:.4f} -> {result.after:.4f}"
        say(f"{work.subject}, {work.method} by {work.optimizer} at {work.rate:g}: {told}")
        best[way] = min(best.get(way, (float("inf"), 0.0)), (result.after, work.rate))
    for way, (_, rate) in best.items():
        if rate in (RATES[way][0], RATES[way][-1]):
            say(f"note: the best rate of {' by '.join(way)} is the lowest or highest one that was tried")
    winners = {min((way for way in best if way[0] == method), key=best.__getitem__) for method in METHODS}
    return {way: rate for way, (_, rate) in best.items() if way in winners or way == USUAL}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    pictures.write_subjects(folder / "uploads", pictures.SUBJECTS | pictures.SPARE)
    pictures.write_subjects(folder / "unseen", pictures.SUBJECTS | pictures.SPARE, count=4, seed=99)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        rates = chosen(pool, options, folder)
        works = [
            FineTune(
                user, subject, *way, rate, seed, options.steps, str(folder), str(options.base), seed == 0
            )
            for seed in range(options.seeds)
            for user, (subject, *_) in pictures.SUBJECTS.items()
            for way, rate in rates.items()
        ]
        results = {}
        for work, result in zip(works, pool.map(fine_tune, works), strict=True):
            results[work] = result
            say(
                f"seed {work.seed}, {work.subject}, {work.method} by {work.optimizer}: "
                f"{result.before:.4f} -> {result.after:.4f} in {result.seconds:.0f} s, {result.bytes:,} bytes"
            )
    if options.pictures:
        draw(results, options.pictures)

    ways = {method: [way for way in rates if way[0] == method] for method in METHODS}
    (lora,), full = ways["lora"], next((way for way in ways["full"] if way != USUAL), USUAL)

    def of(way: tuple[str, str], seed: int | None = None) -> list[FineTuneResult]:
        return [
            result
            for work, result in results.items()
            if (work.method, work.optimizer) == way and seed in (None, work.seed)
        ]

    def ratios(way: tuple[str, str]) -> list[float]:
        """Return, for each seed, LoRA's gain divided by the full fine-tune's. Gains are summed over
        subjects."""
        return [
            sum(each.gain for each in of(lora, seed)) / sum(each.gain for each in of(way, seed))
            for seed in range(options.seeds)
        ]

    sizes = {way[0]: statistics.fmean(each.bytes for each in of(way)) for way in (lora, full)}
    seconds = {way: statistics.median(each.seconds for each in of(way)) for way in rates}
    mean, low, high = interval(ratios(full))
    usual, usual_low, usual_high = interval(ratios(USUAL))
    return {
        "adapter_size_ratio": sizes["full"] / sizes["lora"],
        "quality_ratio": mean,
        "quality_ratio_interval": [low, high],
        "quality_ratio_by_seed": ratios(full),
        "quality_ratio_adamw": usual,
        "quality_ratio_adamw_interval": [usual_low, usual_high],
        "seconds_ratio": seconds[lora] / seconds[full],
        "bytes": sizes,
        "seconds": {" by ".join(way): each for way, each in seconds.items()},
        "learning_rates": {" by ".join(way): rate for way, rate in rates.items()},
        "steps": options.steps,
        "runs": [
            {key: value for key, value in dataclasses.asdict(work).items() if key not in ("folder", "base")}
            | {"before": r.before, "after": r.after, "seconds": r.seconds}
            for work, r in results.items()
        ],
    }


def draw(results: dict[FineTune, FineTuneResult], path: Path) -> None:
    """Draw a row of four pictures for each subject, method and optimizer."""
    rows: Iterable[tuple[Any, ...]] = [result.pictures for result in results.values() if result.pictures]
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
    Image.fromarray(sheet).resize([2 * side for side in sheet.shape[1::-1]]).save(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--steps", type=int, default=int(HYPERPARAMETERS["steps"]))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="groundplan-quality-") as folder:
        figures = measure(options, Path(folder))
    for metric in METRICS:
        value = figures[metric.name]
        bounds = figures.get(f"{metric.name}_interval")
        told = f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else ""
        bound = "" if metric.bound is None else f", wanted {metric.bound:g}"
        say(f"{metric.name}: {value:.4f}{told} ({metric.meaning}{bound})")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
