"""How often a user's model is already in memory: adapters against full copies, and who serves whom.

Every model takes one place, and the least recently used one makes room. Such a cache of `c` places hits
exactly when fewer than `c` other models were asked for since this one last was. That count, the stack
distance, does not depend on `c`: one pass over a stream of requests gives the hit rate at every size of
memory (Mattson et al., Evaluation techniques for storage hierarchies, 1970).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

USERS, EXPONENT, COPIES = 20_000, 1.0, 10
"""Users, the exponent of their popularity, and the memory of a replica in full copies of the model."""

REQUESTS, SETTLED = 400_000, 1 / 4
"""Requests of a stream, and the share at its start that only fills the caches."""

HOT = 0.01
"""A user with more than this share of all requests is hot: with `spread`, every replica serves them."""

UNET, TEXT_ENCODER, VAE = 859_520_964, 123_060_480, 83_653_863
"""Weights of Stable Diffusion 1.5's parts."""

LORA_PER_RANK = 199_296
"""Weights that each unit of rank adds to its UNet: q, k, v and out of all 32 attention layers."""


NEVER = np.iinfo(np.int64).max
"""A distance beyond every size of cache."""


def size_ratio(rank: int = 8) -> float:
    """Bytes of a full copy of Stable Diffusion 1.5 over those of an adapter, in the same precision, by the
    weights' counts. The deployment's default rank is 8."""
    return (UNET + TEXT_ENCODER + VAE) / (LORA_PER_RANK * rank)


def places(copies: int, adapter_size_ratio: float) -> int:
    """Adapters that fit where `copies` full copies do: the resident base takes the place of one copy."""
    return int((copies - 1) * adapter_size_ratio)


def zipf(users: int, exponent: float) -> np.ndarray:
    """Each user's share of the requests, the most popular first; float64, shape (users,)."""
    weights = np.arange(1, users + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def stream(users: int, exponent: float, seed: int, requests: int = REQUESTS) -> np.ndarray:
    """Who asks, request by request: independent draws from `zipf`; int64, shape (requests,)."""
    drawn = np.random.default_rng(seed).random(requests)
    return np.searchsorted(np.cumsum(zipf(users, exponent)), drawn).clip(max=users - 1)


def stack_distances(asked: np.ndarray) -> np.ndarray:
    """How many other models were asked for since each request's model last was; int64, shape of `asked`.

    It is `NEVER` for the first request of a model.
    """
    last = _last_asked(asked)
    # Between the last time and now, a model counts where it appears first: where its own last time lies
    # before ours. All times up to ours do (a time's last lies before it), so they are taken off again.
    distances = _smaller_before(last) - last - 1
    return np.where(last < 0, NEVER, distances)


def _last_asked(asked: np.ndarray) -> np.ndarray:
    """The time of the request before with the same model; before the first, a time of its own below 0."""
    order = np.argsort(asked, kind="stable")
    same = asked[order[1:]] == asked[order[:-1]]
    last = -1 - np.arange(len(asked))  # all different, so that no two values are equal
    last[order[1:][same]] = order[:-1][same]
    return last


def _smaller_before(values: np.ndarray) -> np.ndarray:
    """For each of different `values`, how many before it are smaller: a merge sort from the top down."""
    count = len(values)
    size = 1 << max(count - 1, 1).bit_length()
    padded = np.concatenate([values, np.arange(size - count) + count])
    found = np.zeros(size, dtype=np.int64)
    order = np.argsort(padded, kind="stable")[None, :]  # each row: the times of a stretch, by value
    while order.shape[1] > 1:
        half = order.shape[1] // 2
        early = order < (np.arange(len(order)) * 2 * half + half)[:, None]
        found[order[~early]] += np.cumsum(early, axis=1)[~early]
        order = np.concatenate(
            [order[early].reshape(-1, 1, half), order[~early].reshape(-1, 1, half)], axis=1
        )
        order = order.reshape(-1, half)
    return found[:count]


@dataclass(frozen=True)
class Caches:
    """One stream over one or more replicas: its distances once settled, and how the load falls.

    `busiest` is the most loaded replica's share of the requests times the replicas: 1 is even.
    """

    distances: np.ndarray
    busiest: float = 1.0

    def hit_rate(self, places: int) -> float:
        """Share of the requests whose model is in memory where each replica holds `places` of them."""
        return float(np.mean(self.distances < places))


def caches(asked: np.ndarray) -> Caches:
    """One replica."""
    return Caches(stack_distances(asked)[int(len(asked) * SETTLED) :])


ROUTES = ("round robin", "affinity", "affinity, hot users spread")


def routed(asked: np.ndarray, users: int, count: int, route: str, seed: int = 0) -> np.ndarray:
    """The replica, below `count`, that each request goes to; int64, shape of `asked`.

    `route` is one of `ROUTES`: every request to the next replica, every user to a replica of their own,
    or that with the `HOT` users' requests to every replica in turn. Raises `ValueError` for another.
    """
    if route not in ROUTES:
        raise ValueError(f"route: one of {', '.join(ROUTES)}, not {route!r}")
    turn = np.arange(len(asked)) % count
    home = np.random.default_rng([seed, count]).integers(count, size=users)  # as a hash spreads them
    hot = np.bincount(asked, minlength=users) > HOT * len(asked)
    if route == "affinity":
        return home[asked]
    return turn if route == "round robin" else np.where(hot[asked], turn, home[asked])


def replicas(asked: np.ndarray, users: int, count: int, route: str, seed: int = 0) -> Caches:
    """`count` replicas with a cache each, with requests as `routed` sends them."""
    to = routed(asked, users, count, route, seed)
    distances = np.empty(len(asked), dtype=np.int64)
    for replica in range(count):
        mine = to == replica
        distances[mine] = stack_distances(asked[mine])
    settled = slice(int(len(asked) * SETTLED), None)
    busiest = np.bincount(to[settled], minlength=count).max() * count / len(to[settled])
    return Caches(distances[settled], float(busiest))


def hit_rate_ratio(
    adapter_size_ratio: float,
    *,
    copies: int = COPIES,
    users: int = USERS,
    exponent: float = EXPONENT,
    seed: int = 0,
) -> dict[str, float]:
    """Hit rates at equal memory, of full copies and of adapters beside one base, and their ratio.

    `adapter_size_ratio` is the bytes of a full copy over those of an adapter, as they lie in memory;
    `copies` is the memory in full copies.
    """
    cache = caches(stream(users, exponent, seed))
    adapters, full = cache.hit_rate(places(copies, adapter_size_ratio)), cache.hit_rate(copies)
    return {
        "hit_rate_adapters": adapters,
        "hit_rate_full_copies": full,
        "hit_rate_ratio": adapters / full,
    }
