"""mfm_tune: ablation tables and searches for domain-adaptive segmentation, on Ray Tune and MLflow."""
