"""Prices: the curves of the AWS sample, and a user's history, whose signals use no later prices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from portfolio_trader.market import LOOK_BACK, History, read_prices, source_curves
from toolkit.failure import FatalError


def test_curves_have_the_means_and_deviations_of_the_sample() -> None:
    drawn = source_curves().draw(np.random.default_rng(0), 40_000).prices
    assert drawn.shape == (40_000, 20, 3)
    assert np.allclose(drawn.mean(0)[0], (44, 35, 48), atol=0.2)
    assert np.allclose(drawn.std(0).mean(0), (4, 2, 7), atol=0.1)
    first = source_curves(first_is_on_the_curve=False).draw(np.random.default_rng(0), 40_000).prices[:, 0]
    assert np.allclose(first.mean(0), (40, 35, 48), atol=0.2)


def test_same_seed_draws_the_same_prices() -> None:
    one, two = (source_curves().draw(np.random.default_rng(3), 5).prices for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"prices.csv must have one column 'A', its columns are "),
        ("date,A\n", "prices.csv must have one column 'B', its columns are date, A"),
        ("A,B,A\n", "prices.csv must have one column 'A'"),
        ("date,A,B\n1,2,3\n", "prices.csv must have at least 3 rows of prices, got 1"),
        ("A,B\n1,2\n3,\n", "prices.csv line 3 column 2 must be a price .* at most 1e\\+09, got ''"),
        ("A,B\n1,2\n-3,1\n", "prices.csv line 3 column 1 must be a price .* got '-3'"),
        ("A,B\n1,nan\n", "prices.csv line 2 column 2 must be a price .* got 'nan'"),
        ("A,B\n1\n", "prices.csv line 2 column 2 must be a price .* got ''"),
        ("A,B\n1,2\n3,1e308\n", "prices.csv line 3 column 2 must be a price .* at most 1e\\+09, got '1e308'"),
        ("A,B\n1,2\n3," + "4" * 2000, "line 3 column 2 must be a price .*4{99}[.]{3} .2002 characters.$"),
        ("A,B\n1,2\n3," + "4" * 200_000, "prices.csv line 3 must be a row of a CSV file: field larger than"),
        (",".join(map(str, range(1000))), "prices.csv must have one column 'A', .*[.]{3} .4888 characters.$"),
        ("A,B,\xe9\n1,2,3\n".encode("latin-1"), "prices.csv must be a CSV file in UTF-8, got "),
        ("A,B\n1,2\n".encode("utf-16"), "prices.csv must be a CSV file in UTF-8, got "),
    ],
)
def test_wrong_price_file_is_named_by_line_and_column(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    (tmp_path / "prices.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FatalError, match=sentence):
        read_prices(tmp_path / "prices.csv", ("A", "B"), least=3)


def test_price_file_is_read_by_its_heading(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_bytes("\ufeffB,day,A\n2,mon,1\n4,tue,3\n\n".encode())
    assert read_prices(tmp_path / "prices.csv", ("A", "B"), least=2).tolist() == [[1, 2], [3, 4]]


def test_signals_do_not_depend_on_later_prices() -> None:
    # given two histories with the same prices before row 120
    generator = np.random.default_rng(0)
    prices = 50 * np.exp(np.cumsum(generator.normal(0, 0.02, (200, 2)), axis=0))
    changed = prices.copy()
    changed[120:] *= 1.5
    scales = History.scales_of(prices[:100])

    # when
    ours, theirs = (History(each, scales).every() for each in (prices, changed))

    # then the signals before row 120 are the same, and the signals at row 120 differ
    rows = np.arange(len(ours.prices))[:, None] + np.arange(20) + LOOK_BACK
    same = np.all(ours.signals == theirs.signals, axis=2)
    assert same[rows < 120].all()
    assert not same[rows == 120].any()


def test_windows_follow_the_order_of_the_history() -> None:
    prices = np.arange(1.0, 101.0)[:, None]
    every = History(prices, History.scales_of(prices)).every()
    assert len(every.prices) == 100 - LOOK_BACK - 20 + 1
    assert every.prices[0, :, 0].tolist() == list(range(LOOK_BACK + 1, LOOK_BACK + 21))
    assert every.prices[-1, -1, 0] == 100
