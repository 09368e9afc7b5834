"""Policies that choose the order with the highest value among all admissible orders.

The value of an order is a polynomial in the account's state after the order (a post-decision value, Powell,
Approximate Dynamic Programming, 2nd ed., chapter 4). There is one polynomial for each decision. Its variables
are the holding of each asset, cash, and the signals at the decision. If prices of different steps are
independent, as in the problem of the AWS sample, there are no signals, and holdings are in lots. On a price
history, holdings are in dollars.

- `greedy`: a polynomial of degree 1, in which a unit of an asset is worth the mean of its next price. The
  chosen order would be best if everything were sold at the next prices, without fees. The means are
  known, or estimated from observed episodes.
- `fitted`: value iteration, backward from the last decision, on observed episodes only. With many episodes
  drawn from known curves, it approximates the stochastic dynamic program (`program`), for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numba import config, njit

from .market import Curves, Episodes
from .orders import admissible, every_order, settle, total
from .rules import Compiled

Doubles = np.ndarray[Any, np.dtype[np.float64]]
CASH_UNIT = 1000.0
"""Unit of money in the polynomials, in dollars."""
LOTS_UNIT = 10.0


def monomials(variables: int, degree: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return int64 [F, 2]: for each monomial the row of an earlier monomial, and the variable by which
    the earlier one is multiplied.

    Row 0 is the constant.
    """
    found: dict[tuple[int, ...], int] = {(): 0}
    rows = [(0, 0)]
    for size in range(1, degree + 1):
        for term in combinations_with_replacement(range(variables), size):
            found[term] = len(rows)
            rows.append((found[term[:-1]], term[-1]))
    return np.array(rows, np.int64)


@dataclass(frozen=True)
class Values:
    """A polynomial for each decision."""

    weights: Doubles
    """[S, F] dollars, for S decisions and F monomials"""
    degree: int
    signals: int = 0
    """Number of signals per step, Z. With signals, holdings enter in dollars, otherwise in lots."""

    def terms(self, assets: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return monomials(assets + 1 + self.signals, self.degree)


def units(prices: Any, rules: Compiled, signals: int) -> Doubles:
    """Return by how much one more lot increases a holding's variable in the polynomial, [E, N]."""
    if signals:
        return prices * rules.lot / CASH_UNIT
    return np.full(prices.shape, 1 / LOTS_UNIT)


@njit(cache=True, nogil=True)
def features(lots, cash, unit, signals, terms, row) -> None:
    """Write the monomials of one account into `row` [F]."""
    assets = len(lots)
    row[0] = 1.0
    for f in range(1, len(terms)):
        v = terms[f, 1]
        if v < assets:
            x = lots[v] * unit[v]
        elif v == assets:
            x = cash / CASH_UNIT
        else:
            x = float(signals[v - assets - 1])
        row[f] = row[terms[f, 0]] * x


@njit(cache=True, nogil=True)
def best_orders(
    weights, terms, lots, cash, prices, unit, signals, rules: Compiled, size, actions, values
) -> None:
    """Write each account's best admissible order into `actions` [E, N], and its value into `values` [E].

    :param weights: [F] of this decision
    :param unit: [E, N] from `units`
    :param signals: [E, Z]
    :param size: at least the number of admissible orders
    """
    assets = lots.shape[1]
    orders = np.empty((size, assets), np.int8)
    lots_after, cash_after = np.empty(orders.shape, np.int32), np.empty(size)
    # x has a row for each variable, rows a row for each monomial; both have a column for each order
    x, rows, found = np.empty((assets + 1, size)), np.empty((len(terms), size)), np.empty(size)
    rows[0] = 1.0
    for e in range(len(lots)):
        count = admissible(lots[e], cash[e], prices[e], rules, orders, lots_after, cash_after, True)
        for m in range(count):
            for i in range(assets):
                x[i, m] = lots_after[m, i] * unit[e, i]
            x[assets, m] = cash_after[m] / CASH_UNIT
            found[m] = weights[0]
        for f in range(1, len(terms)):
            row, earlier, v, weight = rows[f], rows[terms[f, 0]], terms[f, 1], weights[f]
            if v <= assets:
                variable = x[v]
                for m in range(count):
                    row[m] = earlier[m] * variable[m]
                    found[m] += weight * row[m]
            else:
                signal = float(signals[e, v - assets - 1])
                for m in range(count):
                    row[m] = earlier[m] * signal
                    found[m] += weight * row[m]
        best, chosen = -np.inf, 0
        for m in range(count):
            if found[m] > best:
                best, chosen = found[m], m
        actions[e] = orders[chosen]
        values[e] = best


@njit(cache=True, nogil=True)
def worth(lots, cash, prices, rules: Compiled, values) -> None:
    """Write the total value of each account in dollars into `values` [E]."""
    for e in range(len(lots)):
        values[e] = total(lots[e], cash[e], prices[e], rules)


@dataclass
class Run:
    """The trades and values of a policy on given prices; E episodes, S decisions, N assets."""

    final: Doubles
    """[E] total value at the end, in dollars"""
    values: Doubles
    """[E, S + 1] total value at each step, in dollars"""
    lots: np.ndarray[Any, np.dtype[np.int32]]
    """[E, S + 1, N] lots held before the decision of each step"""
    cash: Doubles
    """[E, S + 1] dollars before the decision of each step"""
    actions: np.ndarray[Any, np.dtype[np.int8]]
    """[E, S, N] orders in lots"""
    fees: Doubles
    """[E] fees of the episode, in dollars"""
    traded: Doubles
    """[E] value traded in the episode, in dollars"""


def run(policy: Any, episodes: Episodes, rules: Compiled, cash: float) -> Run:
    """Trade with `policy(step, lots, cash, prices, signals) -> actions` [E, N] on given episodes."""
    prices = episodes.prices
    count, steps, assets = prices.shape
    lots, money = np.zeros((count, assets), np.int32), np.full(count, cash)
    fees, traded, refused = np.zeros(count), np.zeros(count), np.zeros(count, np.bool_)
    kept = Run(
        np.empty(count),
        np.empty((count, steps)),
        np.zeros((count, steps, assets), np.int32),
        np.empty((count, steps)),
        np.empty((count, steps - 1, assets), np.int8),
        fees,
        traded,
    )
    for step in range(steps):
        now = np.ascontiguousarray(prices[:, step])
        worth(lots, money, now, rules, kept.final)
        kept.lots[:, step], kept.cash[:, step], kept.values[:, step] = lots, money, kept.final
        if step == steps - 1:
            break
        signals = np.ascontiguousarray(episodes.signals[:, step])
        kept.actions[:, step] = actions = policy(step, lots, money, now, signals)
        settle(actions, lots, money, now, rules, fees, traded, refused)
    return kept


class Maximiser:
    """The policy of a value function: at each decision, the admissible order with the highest value."""

    def __init__(self, values: Values, rules: Compiled):
        self.values, self.rules = values, rules
        assets = len(rules.lot)
        self.terms, self.size = values.terms(assets), len(every_order(assets, rules.largest))

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        return self.best(step, lots, cash, prices, signals)[0]

    def best(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> tuple[Any, Doubles]:
        """Return the orders, int8 [E, N], and their values in dollars, [E]."""
        actions, found = np.empty(lots.shape, np.int8), np.empty(len(lots))
        known = np.ascontiguousarray(signals[:, : self.values.signals])
        unit = units(prices, self.rules, self.values.signals)
        weights, terms = self.values.weights[step], self.terms

        def some(begin: int, end: int) -> None:
            part = slice(begin, end)
            best_orders(
                weights,
                terms,
                lots[part],
                cash[part],
                prices[part],
                unit[part],
                known[part],
                self.rules,
                self.size,
                actions[part],
                found[part],
            )

        in_parts(some, len(lots))
        return actions, found


LEAST_IN_A_PART = 500


def in_parts(work: Callable[[int, int], None], count: int) -> None:
    """Call `work(begin, end)` for parts that cover 0 to `count`, on at most as many threads as numba uses."""
    threads = max(1, min(config.NUMBA_NUM_THREADS, count // LEAST_IN_A_PART))
    if threads == 1:
        work(0, count)
        return
    ends = [count * part // threads for part in range(threads + 1)]
    for _ in _threads().map(work, ends, ends[1:]):  # raises the exceptions of `work`
        pass


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(config.NUMBA_NUM_THREADS, "values")


def greedy(means: Doubles, rules: Compiled) -> Values:
    """Return a value function in which a unit of an asset is worth the mean of its next price.

    :param means: [T, N] dollars
    """
    assets = means.shape[1]
    weights = np.zeros((len(means) - 1, assets + 2))
    weights[:, 1:-1] = means[1:] * rules.lot * LOTS_UNIT
    weights[:, -1] = CASH_UNIT
    return Values(weights, 1)


@dataclass(frozen=True)
class Fitting:
    """Hyperparameters of `fitted`."""

    degree: int = 3
    states: int = 4000
    """Number of accounts to which the polynomial of each decision is fitted."""
    draws: int = 8
    """Number of next prices over which the value of an account is averaged, in the last pass."""
    passes: int = 2
    """Number of backward passes. Each is fitted to the accounts that the previous pass's policy visits."""
    random: float = 0.3
    """Share of random orders, so that the fit also covers accounts that the policy does not visit."""
    ridge: float = 1e-6
    """Penalty on the weights, relative to the size of each monomial. On a price history, what is
    penalized is the difference of a weight from its value if prices do not change. So with a large penalty,
    prices are expected not to change."""


FEWER_DRAWS, LEAST_DRAWS = 4, 2
"""Divisor and minimum of `draws` in the passes before the last one, which only determine the visited
accounts. With a single draw, the policy for the variant `published` lost its gain over `greedy`."""
MOST_STATES = 10
"""Maximum of `states` per observed episode. More accounts would not add information."""


def fitted(observed: Episodes, rules: Compiled, cash: float, seed: int, how: Fitting | None = None) -> Values:
    """Fit a value function to observed episodes.

    :param cash: dollars at the start of an episode
    """
    how = how or Fitting()
    generator = np.random.default_rng(seed)
    count, steps, assets = observed.prices.shape
    states, signals = min(how.states, MOST_STATES * count), observed.signals.shape[2]
    found = greedy(observed.prices.mean(0, dtype=np.float64), rules)
    present = np.zeros(len(monomials(assets + 1 + signals, how.degree)))
    if signals:
        # the account's present worth: holdings plus cash, both in dollars
        present[1 : assets + 2] = CASH_UNIT
    for left in reversed(range(how.passes)):
        # without signals, prices of different steps are independent: the next prices may be any episode's
        draws = max(LEAST_DRAWS, how.draws // FEWER_DRAWS) if left else how.draws
        draws = 1 if signals else min(draws, how.draws)
        policy = Exploring(Maximiser(found, rules), how.random, generator)
        rows = generator.integers(count, size=states)
        met = run(policy, Episodes(observed.prices[rows], observed.signals[rows]), rules, cash)
        found = Values(np.zeros((steps - 1, len(present))), how.degree, signals)
        ahead = Maximiser(found, rules)
        for step in reversed(range(steps - 1)):
            lots, money = met.lots[:, step + 1], met.cash[:, step + 1]  # after the order at `step`
            following = np.repeat(rows, draws) if signals else generator.integers(count, size=states * draws)
            targets = _following_values(
                ahead, step + 1, np.repeat(lots, draws, axis=0), np.repeat(money, draws), observed, following
            )
            now = observed.prices[rows, step]
            known = np.ascontiguousarray(observed.signals[rows, step])
            x = matrix(lots, money, units(now, rules, signals), known, ahead.terms)
            target = targets.reshape(-1, draws).mean(1)
            found.weights[step] = present + regress(x, target - x @ present, how.ridge)
    return found


PROGRAM = Fitting(degree=3, states=16_000, draws=16, random=0.1)
PROGRAM_EPISODES = 200_000
PROGRAM_SEED = 1_000_003


def program(market: Curves, rules: Compiled, cash: float) -> Values:
    """Return the value function of a dynamic program with known price curves, for comparison.

    It is value iteration on episodes drawn from the curves: at each decision a cubic in lots and cash is
    fitted to the values of 16,000 accounts. Each value is the mean over 16 draws of the next prices, and so
    an estimate: with strict rules, the orders of `greedy` may be as good.

    :param cash: dollars at the start of an episode
    """
    episodes = market.draw(np.random.default_rng(PROGRAM_SEED), PROGRAM_EPISODES)
    return fitted(episodes, rules, cash, PROGRAM_SEED, PROGRAM)


CANDIDATES = (
    Fitting(degree=3, states=5000, random=0.1),
    Fitting(degree=2, states=3000, random=0.1),
)
"""Hyperparameters that `selected` chooses from."""
HISTORY_CANDIDATES = tuple(
    Fitting(degree=2, states=6000, random=0.1, ridge=ridge) for ridge in (1e-3, 1e-2, 1e-1)
)
"""Hyperparameters that `selected` chooses from for a price history. A cubic has too many terms for the few
prices of a history: on synthetic prices with a known signal it earned less than a quadratic."""
VALIDATION_EPISODES = 5000
FITTED_SHARE = 2 / 3
"""Share of the observed episodes to which `selected` fits each candidate."""


def least_windows(steps: int) -> int:
    """Return the minimum number of windows that a history must have for `selected`.

    `selected` omits windows that overlap the first two thirds; `steps` windows of the last third must remain.
    """
    count = 1
    while count - round(count * FITTED_SHARE) < 2 * steps:
        count += 1
    return count


def selected(
    observed: Episodes,
    rules: Compiled,
    cash: float,
    seed: int,
    candidates: tuple[Fitting, ...] = (),
) -> tuple[Values, Fitting]:
    """Choose the hyperparameters that earn most on held-back episodes, and fit with them to all episodes.

    With each candidate's hyperparameters, a value function is fitted to the first two thirds of the episodes,
    in order of time, and trades on the rest. With the best candidate's hyperparameters, a value
    function is then fitted to all episodes. Returns this function and these hyperparameters.

    :param candidates: default: `CANDIDATES` or, with signals, `HISTORY_CANDIDATES`
    """
    count, steps, _ = observed.prices.shape
    cut = round(count * FITTED_SHARE)
    candidates = candidates or (HISTORY_CANDIDATES if observed.signals.shape[2] else CANDIDATES)
    first = Episodes(observed.prices[:cut], observed.signals[:cut])
    if observed.signals.shape[2]:  # windows of a history: those that overlap the first part are omitted
        if count < least_windows(steps):
            raise ValueError(f"the history must have at least {least_windows(steps)} windows, got {count}")
        cut += steps
        rest = Episodes(observed.prices[cut:], observed.signals[cut:])
    else:
        rest = recombined(observed.prices[cut:], VALIDATION_EPISODES, np.random.default_rng(seed))
    earned = []
    for how in candidates:
        policy = Maximiser(fitted(first, rules, cash, seed, how), rules)
        earned.append(run(policy, rest, rules, cash).final.mean())
    best = candidates[int(np.argmax(earned))]
    return fitted(observed, rules, cash, seed, best), best


def recombined(prices: Any, count: int, generator: np.random.Generator) -> Episodes:
    """Return `count` episodes that take the prices of each step from a random observed episode.

    This is valid only if the prices of different steps are independent: then these episodes are as likely as
    the observed ones.

    :param prices: [E, T, N] of the observed episodes
    """
    rows = generator.integers(len(prices), size=(count, prices.shape[1]))
    mixed = prices[rows, np.arange(prices.shape[1])]
    return Episodes(mixed, np.empty((*mixed.shape[:2], 0), np.float32))


def _following_values(
    ahead: Maximiser, step: int, lots: Any, cash: Any, observed: Episodes, rows: Any
) -> Doubles:
    """Return the value of accounts, [E], if the prices of `step` are those of the episodes `rows`."""
    signals = np.ascontiguousarray(observed.signals[rows, step])
    if step < len(ahead.values.weights):
        return ahead.best(step, lots, cash, observed.prices[rows, step], signals)[1]
    last = observed.prices[rows, -1]
    if not signals.shape[1]:
        last = np.broadcast_to(observed.prices[:, -1].mean(0), last.shape)  # same expectation, less variance
    found = np.empty(len(lots))
    worth(lots, cash, np.ascontiguousarray(last), ahead.rules, found)
    return found


def matrix(lots: Any, cash: Any, unit: Any, signals: Any, terms: Any) -> Doubles:
    """Return the monomials of many accounts, [E, F]."""
    rows = np.empty((len(lots), len(terms)))
    fill(np.ascontiguousarray(lots), np.ascontiguousarray(cash), unit, signals, terms, rows)
    return rows


@njit(cache=True, nogil=True)
def fill(lots, cash, unit, signals, terms, rows) -> None:
    for e in range(len(lots)):
        features(lots[e], cash[e], unit[e], signals[e], terms, rows[e])


def regress(x: Doubles, y: Doubles, ridge: float) -> Doubles:
    """Return least-squares weights, with a small penalty relative to each column's size."""
    scale = np.sqrt((x * x).mean(0)) + 1e-12
    scaled = x / scale
    gram = scaled.T @ scaled / len(x)
    gram[np.diag_indices_from(gram)] += ridge
    return np.linalg.solve(gram, scaled.T @ y / len(x)) / scale


class Exploring:
    """A policy that replaces a share of another policy's orders with random admissible orders."""

    def __init__(self, policy: Maximiser, share: float, generator: np.random.Generator):
        self.policy, self.share, self.generator = policy, share, generator

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        actions = self.policy(step, lots, cash, prices, signals)
        other = random_orders(lots, cash, prices, self.policy.rules, self.policy.size, self.generator)
        chosen = self.generator.random(len(lots)) < self.share
        actions[chosen] = other[chosen]
        return actions


def random_orders(
    lots: Any, cash: Any, prices: Any, rules: Compiled, size: int, generator: np.random.Generator
) -> Any:
    """Draw an order for each account, int8 [E, N]. All admissible orders of an account are equally likely."""
    actions = np.empty(lots.shape, np.int8)
    pick(lots, cash, prices, rules, size, generator.random(len(lots)), actions)
    return actions


@njit(cache=True, nogil=True)
def pick(lots, cash, prices, rules: Compiled, size, noise, actions) -> None:
    orders = np.empty((size, lots.shape[1]), np.int8)
    lots_after, cash_after = np.empty(orders.shape, np.int32), np.empty(size)
    for e in range(len(lots)):
        count = admissible(lots[e], cash[e], prices[e], rules, orders, lots_after, cash_after)
        actions[e] = orders[min(int(noise[e] * count), count - 1)]
