"""The image's hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.failure import FatalError
from toolkit.options import Options, choice, flag, number, whole

from .variants import VARIANTS

METHODS = ("fitted", "ppo", "rllib")


@dataclass(frozen=True)
class Settings(Options):
    """Hyperparameters of a training or evaluation job."""

    mode: str = choice("train", "evaluate", default="train")
    """`evaluate` compares the models in the channels `candidate` and `champion` on the same held-out
    prices."""
    variant: str = choice(
        *(name for name, each in VARIANTS.items() if not each.faithful), default="corrected"
    )
    """The variant `published` is not allowed, because its policy is not exported;
    `benchmarks/portfolio_rl` trains that policy."""
    method: str = choice(*METHODS, default="fitted")
    objective: str = choice("mean", "log", "cvar", default="mean")
    """Objective of the method `ppo`; the other methods maximise the mean of the final values."""
    observed: int = whole(10, 1_000_000, default=1000)
    """Number of price episodes to which the method `fitted` fits the policy."""
    episodes: int = whole(100, 100_000_000, default=600_000)
    """Number of training episodes of PPO."""
    cpu_seconds: float = number(0, 1e6, default=0.0)
    """CPU time in seconds after which PPO stops, even before `episodes` are reached; 0: no limit."""
    held_out: int = whole(1000, 1_000_000, default=50_000)
    """Number of held-out episodes for the comparison with the baselines."""
    program: bool = flag(default=False)
    """Whether the policy is also compared with a dynamic program that uses the true mean prices. The program
    takes a minute."""
    test_fraction: float = number(0.05, 0.5, default=0.2)
    """Share of a price history, at its end, that is held out."""
    folds: int = whole(1, 100, default=4)
    """Number of parts of the held-out prices. In the walk-forward test, the policy of the method `fitted` is
    refitted to all earlier prices before each part; 1: no walk-forward test."""
    runners: int = whole(0, 1024, default=0)
    """Number of env runners of the method `rllib` on each host; 0: one for each core."""
    recipe: str = choice("ours", "source", default="ours")
    """Hyperparameters of the method `rllib`: `ours`, or for comparison those of the AWS sample, `source`."""
    checkpoint_every: int = whole(0, 1_000_000, default=50)
    """Number of PPO's batches between two checkpoints; 0: no checkpoints."""
    seed: int = whole(0, 2**31 - 1, default=0)
    threads: int = whole(0, 1024, default=0)
    """Number of threads; 0: one for each core with the method `fitted`; 1 with the other methods, because
    their networks are small."""

    def check(self) -> None:
        """Raise `FatalError` if two hyperparameters contradict each other."""
        if self.objective != "mean" and self.method != "ppo":
            raise FatalError(
                f"hyperparameter objective must be mean with method {self.method}, got {self.objective!r}:"
                " log and cvar need method ppo"
            )
