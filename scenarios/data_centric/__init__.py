"""Scenario of `data_centric`, for a deployed stack, locally or on AWS.

Twenty simulated labelers label digits through the API. A label examination consolidates their answers with a
model and finds planted label errors, which an expert reviews through the same API. Then a sweep compares
strategies of data selection on MNIST.
"""

from scenarios.data_centric.metrics import METRICS
from scenarios.data_centric.steps import prepare, run

__all__ = ["METRICS", "prepare", "run"]
