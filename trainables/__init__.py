"""trainables: the UDA + MFM training loop. Knows nothing of MLflow, and of Ray in `trainables.tune` only."""
