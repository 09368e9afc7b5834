"""Hyperparameters with which the demonstration trains models on the small base, in minutes on one core."""

HYPERPARAMETERS = {
    "steps": "200",
    "batch_size": "8",
    "optimizer": "muon",
    "learning_rate": "0.01",
    "rank": "48",
    "alpha": "48",
    "rank_falloff": "2",
    "variants": "1",
    "prior_batch": "2",
    "previews": "4",
    "preview_steps": "25",
    "guidance": "1.5",
    "threads": "1",
}
"""Hyperparameters of `containers/personalization/finetune`, whose defaults are for Stable Diffusion on a
GPU."""
