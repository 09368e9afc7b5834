"""Metrics of this scenario, with meaning, unit and bound."""

from __future__ import annotations

from scenarios import Metric

SHARE = "share of the items with the right label, "
LOW, HIGH = "Lower end of its 95% interval", "Upper end of its 95% interval"


def _ends(name: str, unit: str = "") -> tuple[Metric, Metric]:
    return Metric(f"{name}_low", LOW, unit), Metric(f"{name}_high", HIGH, unit)


METRICS = (
    Metric("answers", "Stored answers of twenty labelers, two of them spammers"),
    Metric("lost_tasks", "Items without all their labels at the end of the labeling run", "", "lower", 0),
    Metric("lost_answers", "Acknowledged answers that are not stored", "", "lower", 0),
    Metric("double_labels", "Items with more labels than requested", "", "lower", 0),
    Metric("tasks_left", "Tasks that were leased to a labeler and not answered"),
    Metric("answers_twice", "Answers that a labeler submitted twice, which the API recognized"),
    Metric("labels_majority", f"Majority of three answers: {SHARE}a tie counts in part", "%"),
    Metric("labels_dawid_skene", f"Dawid-Skene on the same answers: {SHARE.rstrip(', ')}", "%"),
    Metric("labels_crowdlab", f"CROWDLAB on the same answers: {SHARE.rstrip(', ')}", "%"),
    Metric(
        "gain_dawid_skene",
        "Right labels by Dawid-Skene minus those by majority, paired by item",
        "points",
        "higher",
        4,
    ),
    *_ends("gain_dawid_skene", "points"),
    Metric(
        "gain_crowdlab",
        "Right labels by CROWDLAB minus those by majority, paired by item",
        "points",
        "higher",
        10,
    ),
    *_ends("gain_crowdlab", "points"),
    Metric("spammers_found", "Spammers that the examination found, of two"),
    Metric("wrongly_called_spammers", "Honest labelers that the examination called spammers"),
    Metric("errors_recall", "Share of the planted label errors that are found", "", "higher", 0.82),
    *_ends("errors_recall"),
    Metric("errors_precision", "Share of the found label errors that were planted", "", "higher", 0.70),
    *_ends("errors_precision"),
    Metric("reviewed", "Found label errors that an expert reviewed"),
    Metric("corrected", "Reviewed labels that were wrong before the review and right after it"),
    Metric("runs", "Training runs of the sweep: strategies, fractions and seeds"),
    Metric("accuracy_full", "Accuracy on held-out pictures, trained on all data, mean of the seeds", "%"),
    *(
        metric
        for percent, lost in ((50, -0.5), (30, -1.0), (10, None))
        for metric in (
            # no bound, because jobs that share cores slow each other down by up to a half; the benchmark,
            # in which runs train in turns of one epoch, has the bounds
            Metric(
                f"time_ratio_{percent}",
                f"GLISTER at {percent} %: processor seconds of training and selection, divided by those of"
                " training on all data; a rough figure, because jobs share this machine's cores",
            ),
            Metric(
                f"accuracy_difference_{percent}",
                f"GLISTER at {percent} %: accuracy minus that with all data, paired by seed",
                "points",
                "higher" if lost is not None else "",
                lost,
            ),
            *_ends(f"accuracy_difference_{percent}", "points"),
            Metric(
                f"random_difference_{percent}",
                f"Adaptive random at {percent} %: accuracy minus that with all data, paired by seed",
                "points",
            ),
            *_ends(f"random_difference_{percent}", "points"),
            Metric(
                f"fewer_epochs_difference_{percent}",
                f"All data for {percent} % of the epochs: accuracy minus that after all epochs",
                "points",
            ),
        )
    ),
    Metric(
        "selection_share_50",
        "GLISTER at 50 %: processor seconds of selection divided by those of training",
        "",
        "lower",
        0.08,
    ),
    Metric("recommended_fraction", "Fraction that the sweep recommends"),
    Metric("seconds_labels", "Time from the start of the labeling run to its labels", "s"),
    Metric("seconds_sweep", "Time from the start of the sweep to its comparison", "s"),
)
