"""Shared code of SageMaker's jobs: training, processing, transform, tuning and labeling."""
