"""Invalid hyperparameters of the training job."""

from __future__ import annotations

import pytest

from subset_training.settings import Settings
from subset_training.strategies.names import MAKERS, Choices, strategy
from toolkit.failure import FatalError


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"fraction": "0"}, "hyperparameter fraction must be a number above 0 and up to 1"),
        ({"fraction": "1.5"}, "hyperparameter fraction must be a number above 0 and up to 1"),
        ({"fraction": "nan"}, "hyperparameter fraction must be a number above 0"),
        ({"strategy": "glitter"}, "hyperparameter strategy must be full or fewer_epochs or"),
        ({"strategy": "infobatch", "fraction": "0.3"}, "fraction must be 1 with strategy infobatch, got 0.3"),
        ({"strategy": "full", "fraction": "0.5"}, "fraction must be 1 with strategy full, got 0.5"),
        ({"recipe": "faster"}, "hyperparameter recipe must be plain or fast"),
        ({"recipe": "fast", "model": "mlp"}, "hyperparameter recipe must be plain with model mlp, got fast"),
        ({"timeout": "4"}, "hyperparameter timeout must be a whole number from 5 to 86400"),
        ({"seeds": "1,1"}, "seeds must be up to 100 different whole numbers"),
        ({"seeds": "1,-2"}, "seeds must be "),
        ({"seeds": ""}, "seeds must be "),
    ],
)
def test_hyperparameter_outside_its_bounds_is_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(FatalError, match=sentence):
        Settings.read(given).check()


def test_defaults_are_allowed_and_seeds_are_a_list() -> None:
    Settings().check()
    assert Settings.read({"seeds": "3, 1,2"}).seeds == (3, 1, 2)


@pytest.mark.parametrize("name", MAKERS)
def test_every_name_makes_a_new_strategy(name: str) -> None:
    assert strategy(name, Choices()) is not strategy(name, Choices())
