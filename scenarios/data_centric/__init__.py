"""What a person does with `data_centric` once it is deployed, here or on AWS.

Twenty simulated labelers label digits through the API, an examination consolidates their answers with a
model and finds planted label errors, an expert reviews them on the same API; then a sweep compares
strategies of data selection on MNIST.
"""

from scenarios.data_centric.metrics import METRICS
from scenarios.data_centric.steps import prepare, run

__all__ = ["METRICS", "prepare", "run"]
