"""Lambda code of the labeling workflow and of sweeps. See README.md."""
