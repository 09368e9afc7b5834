"""Hyperparameters that are refused."""

from __future__ import annotations

import pytest

from subset_training.settings import Settings
from subset_training.strategies.names import MAKERS, Choices, strategy
from toolkit.failure import Failure


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"fraction": "0"}, "hyperparameter fraction is '0': it takes a number above 0 and up to 1"),
        ({"fraction": "1.5"}, "hyperparameter fraction is '1.5': it takes a number above 0 and up to 1"),
        ({"fraction": "nan"}, "hyperparameter fraction is 'nan': it takes a number above 0"),
        ({"strategy": "glitter"}, "hyperparameter strategy is 'glitter': it takes full or fewer_epochs or"),
        ({"strategy": "infobatch", "fraction": "0.3"}, "fraction is 0.3: strategy infobatch takes 1"),
        ({"strategy": "full", "fraction": "0.5"}, "fraction is 0.5: strategy full takes 1"),
        ({"recipe": "faster"}, "hyperparameter recipe is 'faster': it takes plain or fast"),
        ({"recipe": "fast", "model": "mlp"}, "hyperparameter recipe is fast: model mlp takes plain"),
        ({"timeout": "4"}, "hyperparameter timeout is '4': it takes a whole number from 5 to 86400"),
        ({"seeds": "1,1"}, "seeds is '1,1': it takes up to 100 different whole numbers"),
        ({"seeds": "1,-2"}, "seeds is '1,-2': it takes"),
        ({"seeds": ""}, "seeds is '': it takes"),
    ],
)
def test_hyperparameter_outside_its_bounds_is_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        Settings.read(given).check()


def test_defaults_are_allowed_and_seeds_are_a_list() -> None:
    Settings().check()
    assert Settings.read({"seeds": "3, 1,2"}).seeds == (3, 1, 2)


@pytest.mark.parametrize("name", MAKERS)
def test_every_name_makes_a_new_strategy(name: str) -> None:
    assert strategy(name, Choices()) is not strategy(name, Choices())
