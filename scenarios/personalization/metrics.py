"""Metrics of this scenario, with meaning, unit and bound."""

from __future__ import annotations

from scenarios import Metric

METRICS = (
    Metric("users", "People who onboarded at once, each with a model of their own"),
    Metric("uploads", "Pictures that they uploaded", "pictures"),
    Metric("generated", "Pictures that their models made for them at the endpoint", "pictures"),
    Metric(
        "seconds_to_first_image",
        "From the start of a model to its first picture, made inside the training job; the slowest user's",
        "s",
        "lower",
    ),
    Metric(
        "seconds_to_ready",
        "From the start of a model to the endpoint having it; the slowest user's",
        "s",
        "lower",
    ),
    Metric(
        "seconds_cold",
        "A person's first picture from the endpoint, the adapter loaded for it; median",
        "s",
        "lower",
    ),
    Metric("seconds_warm", "The same again, the adapter there; median", "s", "lower"),
    Metric(
        "adapter_size_ratio",
        "A full copy of the pipeline against the adapter, in bytes",
        "times",
        "higher",
        15,
    ),
    Metric("adapter_kib", "The adapter's archive", "KiB", "lower"),
    Metric(
        "cold_load_ratio",
        "From S3 to the first picture in Triton: seconds of a full copy against an adapter's, medians",
        "times",
        "higher",
        5,
    ),
    Metric("warm_switch_ms", "What it costs to answer for another person than the last one", "ms", "lower"),
    Metric(
        "hit_rate_ratio",
        "Share of requests whose model is in memory, adapters against full copies at equal memory: "
        "20,000 users, Zipf 1.0, simulated",
        "times",
        "higher",
        5,
    ),
    Metric(
        "makespan_ratio",
        "Packing fine-tunes of guessed durations: the job's time against the least possible, simulated",
        "",
        "lower",
        1.05,
    ),
    Metric("tenant_attempts", "Tries to reach what is another person's, by every route", "tries"),
    Metric("tenant_escapes", "Of them, those that reached anything", "tries", "lower", 0),
)
