"""The hyperparameters of a training job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from toolkit.failure import FatalError
from toolkit.options import Options, choice, flag, number, option, whole

from . import models
from .reading import Decoding
from .recipes import PLAIN, RECIPES
from .strategies import infobatch
from .strategies.glister import ROUNDS
from .strategies.gradmatch import PENALTY
from .strategies.names import MAKERS, UNBUDGETED, Choices

FRESH, RECORDED = "fresh", "recorded"
FP32, BF16 = "fp32", "bf16"
MOST_SEEDS = 100
LARGEST_SEED = 2**31 - 1


def _seeds(given: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in given.split(","))
    if len(set(found)) != len(found) or len(found) > MOST_SEEDS:
        raise ValueError
    if not all(0 <= seed <= LARGEST_SEED for seed in found):
        raise ValueError
    return found


@dataclass(frozen=True)
class Settings(Options):
    """Hyperparameters with their defaults and bounds."""

    strategy: str = choice(*MAKERS, default="glister")
    fraction: float = number(0, 1, default=1.0, above=True)
    """Share of the training examples used in each epoch; for `fewer_epochs`, the share of epochs"""
    epochs: int = whole(1, 10_000, default=100)
    seeds: tuple[int, ...] = option(
        _seeds,
        f"up to {MOST_SEEDS} different whole numbers from 0 to {LARGEST_SEED}, separated by commas",
        (0,),
    )
    """Seeds of the training runs. The job trains one run for each seed, one after another"""
    model: str = choice(*models.NAMES, default=models.SMALL)

    batch_size: int = whole(1, 65_536, default=64)
    """Number of examples in a batch, over all hosts"""
    learning_rate: float = number(0, 100, default=0.05, above=True)
    """Maximum learning rate: the start of the cosine decay to 0, or the peak of the one-cycle schedule"""
    momentum: float = number(0, 0.999, default=0.9)
    weight_decay: float = number(0, 1, default=5e-4)
    augment: bool = flag(default=False)
    """Augment pictures by random crops and flips"""
    precision: str = choice(FP32, BF16, default=FP32)
    recipe: str = choice(*RECIPES, default=PLAIN)
    """`fast`: one-cycle learning rate, label smoothing, `augment`, and bf16 on a GPU; see `recipes.py`"""

    interval: int = whole(1, 10_000, default=10)
    """Epochs between gradient-based selections"""
    outputs: str = choice(FRESH, RECORDED, default=FRESH)
    """Outputs from which gradients are computed: of a `fresh` forward pass, or `recorded` during training"""
    validation_sample: int = whole(0, 10_000_000, default=0)
    """Number of validation examples used for a selection; 0: all"""
    rounds: int = whole(0, 1_000_000, default=ROUNDS)
    """Rounds of GLISTER's greedy selection; 0: one round for each example to select"""
    epsilon: float = number(0, 0.5, default=0.01, above=True)
    """Accuracy parameter of stochastic greedy selection: smaller values use larger samples"""
    match_batch: int = whole(1, 65_536, default=64)
    """Batch size of GradMatch-PB"""
    penalty: float = number(0, 1e6, default=PENALTY, above=True)
    """L2 penalty of GradMatch, relative to the mean squared gradient"""
    pruned: float = number(0, 0.99, default=infobatch.PRUNED, above=True)
    """The share that InfoBatch prunes of the examples with a below-average loss"""
    annealed: float = number(0, 1, default=infobatch.ANNEALED)
    """Share of the epochs after which InfoBatch stops pruning"""

    validation_fraction: float = number(0, 0.5, default=0.1, above=True)
    """Share of the training channel held out for validation if there is no validation channel"""
    side: int = whole(0, 1024, default=0)
    """Side, in pixels, of the square to which pictures are scaled; 0: keep their size"""
    grey: bool = flag(default=False)
    """Convert pictures to grayscale"""
    most_unreadable: int = whole(0, 1_000_000, default=0)
    """Maximum number of unreadable pictures in a channel; the job fails above it"""
    checkpoint_every: int = whole(0, 10_000, default=1)
    """Epochs between checkpoints; 0: no checkpoints"""
    threads: int = whole(0, 1024, default=0)
    """Number of CPU threads; 0: all cores"""
    timeout: int = whole(5, 86_400, default=600)
    """Maximum time, in seconds, that hosts wait for each other at the start and in a collective operation"""

    def check(self) -> None:
        """Raise `FatalError` for hyperparameters that contradict each other."""
        if self.strategy in UNBUDGETED and self.fraction != 1:
            raise FatalError(
                f"hyperparameter fraction must be 1 with strategy {self.strategy}, got {self.fraction:g}"
            )
        if self.recipe != PLAIN and self.model == models.MLP:
            raise FatalError(
                f"hyperparameter recipe must be {PLAIN} with model {models.MLP}, got {self.recipe}"
            )

    @property
    def augmented(self) -> bool:
        """Whether pictures are augmented."""
        return self.augment or RECIPES[self.recipe].augment

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.side, self.grey, self.most_unreadable)

    @property
    def choices(self) -> Choices:
        return Choices(
            self.interval,
            self.rounds,
            self.epsilon,
            self.match_batch,
            self.penalty,
            self.pruned,
            self.annealed,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
