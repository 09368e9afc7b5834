"""Metrics of this scenario, with meaning, unit and bound."""

from __future__ import annotations

from scenarios import Metric

METRICS = (
    Metric("replayed_hours", "Hours of the market that were replayed"),
    Metric("replay_rate", "Market hours replayed in one real hour, from the seconds of a rehearsed offer"),
    Metric("hours_without_bid", "Hours without an offer in the market", "", "lower", 0),
    Metric("late_bids", "Offers that the market rejected because they were late", "", "lower", 0),
    Metric(
        "double_bids", "Second offers for the same hour, all of which the market rejected", "", "lower", 0
    ),
    Metric("fallback_hours", "Hours with an earlier offer, because the model made none", "", "lower", 0),
    Metric("no_offer_hours", "Hours with an explicit no-offer", "", "lower", 0),
    Metric("day_ahead_offers", "Offers in the day-ahead market"),
    Metric(
        "no_offer_day_ahead_hours",
        "Hours of the day-ahead market without an offer that was due",
        "",
        "lower",
        0,
    ),
    Metric(
        "interpolated_hours", "Hours with a value that was interpolated, or came from an earlier forecast"
    ),
    Metric("corrected_hours", "Hours that got a second version by a correction"),
    Metric("seconds_to_offer", "Time from the start of a run to its offers in the market, median", "s"),
    Metric(
        "seconds_to_offer_p95",
        "Time from the start of a run to its offers in the market, 95th percentile",
        "s",
    ),
    Metric("seconds_retraining", "Time from the start of a retraining to its model in service", "s"),
    Metric("retrainings", "Models that the pipeline trained, registered and put into service"),
    Metric(
        "capture",
        "Share of perfect foresight that day-ahead schedules by the first model's forecasts earn, on days"
        " that it was not fitted to",
    ),
    Metric("capture_days", "Days on which the capture is measured"),
    Metric("revenue_real_time", "Revenue with real-time offers, in the replayed hours", "$"),
    Metric(
        "revenue_self_schedule",
        "Revenue of the day-ahead awards alone, same hours, as far as the battery can deliver them",
        "$",
    ),
    Metric(
        "real_time_ratio",
        "Revenue with real-time offers divided by that of perfect foresight at real-time prices",
    ),
)
