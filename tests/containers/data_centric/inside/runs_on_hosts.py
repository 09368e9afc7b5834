"""Training runs on two hosts. `test_hosts.py` compares their results with those on one host.

Each host runs `python runs_on_hosts.py FOLDER HOST HOST RANK`, with the addresses of both hosts and its rank.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from subset_training.data import Data, Examples
from subset_training.hosts import Hosts, joined
from subset_training.learner import Learner
from subset_training.selection import Selection
from subset_training.settings import Settings
from toolkit.sagemaker import Cluster

CPU = torch.device("cpu")
COUNT = 57
QUICK = Settings(strategy="glister", fraction=0.3, epochs=4, interval=2, batch_size=8)
RUNS = {
    # 57 examples, and 17 selected ones, leave one example for the last batch: one of the two hosts gets none
    "full": replace(QUICK, strategy="full", fraction=1.0),
    "adaptive_random": replace(QUICK, strategy="adaptive_random", augment=True),
    "glister": QUICK,
    "glister, recorded": replace(QUICK, outputs="recorded"),
    "glister_published": replace(QUICK, strategy="glister_published", validation_sample=7),
    "glister_stochastic": replace(QUICK, strategy="glister_stochastic"),
    "craig": replace(QUICK, strategy="craig"),
    "gradmatch": replace(QUICK, strategy="gradmatch"),
    "gradmatch_pb": replace(QUICK, strategy="gradmatch_pb", match_batch=4),
    "infobatch": replace(QUICK, strategy="infobatch", fraction=1.0),
    "milo": replace(QUICK, strategy="milo"),
    # a network with batch normalization; at this learning rate, training does not amplify rounding errors
    "fast": replace(
        QUICK,
        strategy="full",
        fraction=1.0,
        model="resnet9",
        recipe="fast",
        epochs=1,
        batch_size=19,
        learning_rate=0.005,
    ),
}


def examples(count: int, seed: int) -> Examples:
    """Pictures of 8 by 8 pixels: noise with a bright column, whose position is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(120, (count, 1, 8, 8), generator=generator)
    for row, label in enumerate(labels.tolist()):
        images[row, 0, :, 1 + 2 * label] += 90
    return Examples(images.to(torch.uint8), labels)


DATA = Data(examples(COUNT, 0), examples(31, 1), None, ("left", "middle", "right"), ())


class Recorded(Learner):
    """A training run that records the selection of each epoch."""

    def __init__(self, settings: Settings, hosts: Hosts):
        super().__init__(settings, DATA, 0, CPU, hosts)
        self.selections: list[Selection] = []

    def _select(self, number: int) -> Selection:
        self.selections.append(super()._select(number))
        return self.selections[-1]


def result(name: str, hosts: Hosts) -> dict[str, Any]:
    """Train to the end. Return the selections, the rows of the result table, the model's weights and the
    recorded losses."""
    learner = Recorded(RUNS[name], hosts)
    while not learner.done:
        learner.epoch()
    return {
        "selections": [tuple(each) for each in learner.selections],
        "rows": learner.rows,
        "weights": learner.model.state_dict(),
        "losses": learner.records.losses,
    }


def normalized(hosts: Hosts, count: int) -> dict[str, Any]:
    """Apply batch normalization to a batch that is split between the hosts. Return outputs, gradients and
    running statistics."""
    generator = torch.Generator().manual_seed(0)
    images, factors = torch.randn(2, count, 3, 4, 4, generator=generator) + 2
    layer = hosts.norm(3)
    own = hosts.part(images).requires_grad_()
    outputs = layer(own)
    (outputs.square() * hosts.part(factors)).sum().backward()
    assert own.grad is not None
    return {
        "outputs": hosts.gather(outputs.detach()),
        "gradient": hosts.gather(own.grad),
        "weight": hosts.gather(layer.weight.grad[None]).sum(0),
        "statistics": layer.state_dict(),
    }


def main(folder: Path, names: tuple[str, str], rank: int) -> None:
    torch.set_num_threads(1)
    with joined(Cluster(names, names[rank], "lo"), 60, CPU, lambda: None) as hosts:
        found = {name: result(name, hosts) for name in RUNS}
        found |= {f"normalized {count}": normalized(hosts, count) for count in (1, 5)}
        if hosts.first:
            torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), (sys.argv[2], sys.argv[3]), int(sys.argv[4]))
