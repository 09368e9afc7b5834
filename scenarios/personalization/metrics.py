"""Metrics of this scenario, with meaning, unit and bound."""

from __future__ import annotations

from scenarios import Metric

METRICS = (
    Metric("users", "Users who created a model at the same time, one model each"),
    Metric("uploads", "Pictures that the users uploaded", "pictures"),
    Metric("generated", "Pictures that the endpoint made with the users' models", "pictures"),
    Metric(
        "seconds_to_first_image",
        "Time from the start of a model to its first picture, which the training job makes; slowest user",
        "s",
        "lower",
    ),
    Metric(
        "seconds_to_ready",
        "Time from the start of a model until the endpoint can serve it; slowest user",
        "s",
        "lower",
    ),
    Metric(
        "seconds_cold",
        "Time of a user's first picture from the endpoint, including the load of the adapter; median",
        "s",
        "lower",
    ),
    Metric("seconds_warm", "Time of a further picture, with the adapter in memory; median", "s", "lower"),
    Metric(
        "adapter_size_ratio",
        "Bytes of a full copy of the pipeline divided by bytes of the adapter",
        "times",
        "higher",
        15,
    ),
    Metric("adapter_kib", "Size of the adapter's archive", "KiB", "lower"),
    Metric(
        "cold_load_ratio",
        "Time from S3 to the first picture in Triton: a full copy's divided by an adapter's, medians",
        "times",
        "higher",
        5,
    ),
    Metric("warm_switch_ms", "Additional time of a request after a request of another user", "ms", "lower"),
    Metric(
        "hit_rate_ratio",
        "Share of requests whose model is in memory, adapters divided by full copies in equal memory: "
        "20,000 users, Zipf 1.0, simulated",
        "times",
        "higher",
        5,
    ),
    Metric(
        "makespan_ratio",
        "Packing fine-tunes by estimated durations: the job's time divided by the lower bound, simulated",
        "",
        "lower",
        1.05,
    ),
    Metric("tenant_attempts", "Attempts to access another user's data, by every route", "tries"),
    Metric("tenant_escapes", "Attempts that accessed another user's data", "tries", "lower", 0),
)
