"""Training on two hosts selects the same examples and gives the same model as on one host."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import pytest
import runs_on_hosts
import torch
from runs_on_hosts import CPU, RUNS
from torch import Tensor

from subset_training import train
from subset_training.hosts import Hosts, joined
from toolkit.failure import FatalError
from toolkit.sagemaker import Cluster

PATIENCE = 120
TWO = Cluster(("algo-1", "algo-2"), "algo-1")


def addresses() -> tuple[str, str]:
    """Return two random loopback addresses, sorted."""
    network = f"127.{random.randint(128, 254)}.{random.randint(0, 255)}"
    return f"{network}.1", f"{network}.2"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of the training runs on two hosts."""
    folder, names = tmp_path_factory.mktemp("hosts"), addresses()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "SAGEMAKER_BASE_DIR": str(folder)}
    started = [
        subprocess.Popen(
            [sys.executable, runs_on_hosts.__file__, str(folder), *names, str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        logs = [process.communicate(timeout=PATIENCE)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(logs)[-4000:]
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RUNS)
def test_two_hosts_train_the_same_model_as_one(name: str, two: dict[str, Any]) -> None:
    found, expected = two[name], runs_on_hosts.result(name, Hosts())
    # compare the selected examples of every epoch, and their weights
    for (indices, weights), (others, theirs) in zip(found["selections"], expected["selections"], strict=True):
        assert torch.equal(indices, others)
        torch.testing.assert_close(weights, theirs, rtol=1e-4, atol=1e-5)
    for row, other in zip(found["rows"], expected["rows"], strict=True):
        for column in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert row[column] == pytest.approx(other[column], rel=1e-4, abs=1e-5), column
        assert row["selection_forwards"] == other["selection_forwards"]
        assert row["examples"] == other["examples"]
    torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-3, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("count", [1, 5])
def test_batch_normalization_is_that_of_the_whole_batch(count: int, two: dict[str, Any]) -> None:
    # a batch of one example leaves the second host without an example
    found, expected = two[f"normalized {count}"], runs_on_hosts.normalized(Hosts(), count)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_host_that_does_not_join_is_named() -> None:
    first, second = addresses()
    with (
        pytest.raises(FatalError, match=rf"^{second} did not join within 1 s \(hyperparameter timeout\)$"),
        joined(Cluster((first, second), first), 1, CPU, lambda: None),
    ):
        pass


class Different(Hosts):
    """Two simulated hosts with different values."""

    def gather(self, values: Tensor) -> Tensor:
        return torch.cat([values, values + 1])


def test_host_with_other_data_is_named() -> None:
    train.require_same("0123456789abcdef", Cluster(("algo-1",), "algo-1"), Hosts())
    with pytest.raises(FatalError, match=r"must have the same data as algo-1 .* got other data on algo-2$"):
        train.require_same("0123456789abcdef", TWO, Different())
