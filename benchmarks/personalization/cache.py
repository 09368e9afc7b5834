"""Cache hit rates of models in memory: adapters compared with full copies of the base; several replicas.

Every model takes one place in memory, and the least recently used model is evicted. In such a cache with
`c` places, a request hits exactly if fewer than `c` other models were requested since the last request of its
model. The number of these other models is the stack distance. It does not depend on `c`, so one pass over a
stream of requests gives the hit rate for every memory size (Mattson et al., Evaluation techniques for storage
hierarchies, 1970).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

USERS, EXPONENT, COPIES = 20_000, 1.0, 10
"""Number of users, exponent of the Zipf distribution of their requests, and number of full copies that fit
into a replica's memory."""

REQUESTS, SETTLED = 400_000, 1 / 4
"""Number of requests in a stream, and the share of them at its start that only warms up the caches."""

HOT = 0.01
"""A user with more than this share of all requests is hot: the route `affinity, hot users spread`
distributes their requests over all replicas."""

UNET, TEXT_ENCODER, VAE = 859_520_964, 123_060_480, 83_653_863
"""Numbers of weights in the components of Stable Diffusion 1.5."""

LORA_PER_RANK = 199_296
"""Number of weights that an adapter has for each unit of rank: q, k, v and out of all 32 attention layers of
the U-Net."""


NEVER = np.iinfo(np.int64).max
"""A stack distance that exceeds every cache size."""


def size_ratio(rank: int = 8) -> float:
    """Return the bytes of a full copy of Stable Diffusion 1.5 divided by those of an adapter.

    Both have the same precision, so the result is the ratio of their numbers of weights. The deployment's
    default rank is 8."""
    return (UNET + TEXT_ENCODER + VAE) / (LORA_PER_RANK * rank)


def places(copies: int, adapter_size_ratio: float) -> int:
    """Return the number of adapters that fit into the memory of `copies` full copies, one of which is the
    base."""
    return int((copies - 1) * adapter_size_ratio)


def zipf(users: int, exponent: float) -> np.ndarray:
    """Return each user's share of the requests, largest first; float64, shape (users,)."""
    weights = np.arange(1, users + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def stream(users: int, exponent: float, seed: int, requests: int = REQUESTS) -> np.ndarray:
    """Return the user of each request, drawn independently from `zipf`; int64, shape (requests,)."""
    drawn = np.random.default_rng(seed).random(requests)
    return np.searchsorted(np.cumsum(zipf(users, exponent)), drawn).clip(max=users - 1)


def stack_distances(asked: np.ndarray) -> np.ndarray:
    """Return the stack distance of each request; int64, shape of `asked`.

    It is the number of other models that were requested since the last request of the same model, or `NEVER`
    for the first request of a model.
    """
    last = _last_asked(asked)
    # The distance of request i is the number of requests j with last[i] < j < i and last[j] < last[i]: each
    # other model is counted once, at its first request after last[i]. `_smaller_before` also counts the
    # last[i] + 1 requests j <= last[i], so they are subtracted.
    distances = _smaller_before(last) - last - 1
    return np.where(last < 0, NEVER, distances)


def _last_asked(asked: np.ndarray) -> np.ndarray:
    """Return, for each request, the index of the previous request of the same model.

    It is a unique negative number for the first request of a model.
    """
    order = np.argsort(asked, kind="stable")
    same = asked[order[1:]] == asked[order[:-1]]
    last = -1 - np.arange(len(asked))  # unique, because `_smaller_before` needs distinct values
    last[order[1:][same]] = order[:-1][same]
    return last


def _smaller_before(values: np.ndarray) -> np.ndarray:
    """Return for each value the number of smaller values before it, by a top-down merge sort. All values must
    differ."""
    count = len(values)
    size = 1 << max(count - 1, 1).bit_length()
    padded = np.concatenate([values, np.arange(size - count) + count])
    found = np.zeros(size, dtype=np.int64)
    # each row has the positions of one segment of `padded`, sorted by value
    order = np.argsort(padded, kind="stable")[None, :]
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
    """Results of a stream on one or more replicas: stack distances after the warm-up, and the load of the
    busiest replica.

    `busiest` is the number of requests of the busiest replica divided by the mean of all replicas.
    """

    distances: np.ndarray
    busiest: float = 1.0

    def hit_rate(self, places: int) -> float:
        """Return the share of requests whose model is in memory if each replica has `places` places."""
        return float(np.mean(self.distances < places))


def caches(asked: np.ndarray) -> Caches:
    """Return the caches of a single replica."""
    return Caches(stack_distances(asked)[int(len(asked) * SETTLED) :])


ROUTES = ("round robin", "affinity", "affinity, hot users spread")


def routed(asked: np.ndarray, users: int, count: int, route: str, seed: int = 0) -> np.ndarray:
    """Return the replica of each request, from 0 to `count` - 1; int64, shape of `asked`.

    `route` is one of `ROUTES`. With round robin, each request goes to the next replica. With affinity, all
    requests of a user go to the same replica; with hot users spread, requests of hot users (`HOT`) go to all
    replicas in turn. Raises `ValueError` for another route.
    """
    if route not in ROUTES:
        raise ValueError(f"route must be one of {', '.join(ROUTES)}, got {route!r}")
    turn = np.arange(len(asked)) % count
    # stands in for a hash of the user ID
    home = np.random.default_rng([seed, count]).integers(count, size=users)
    hot = np.bincount(asked, minlength=users) > HOT * len(asked)
    if route == "affinity":
        return home[asked]
    return turn if route == "round robin" else np.where(hot[asked], turn, home[asked])


def replicas(asked: np.ndarray, users: int, count: int, route: str, seed: int = 0) -> Caches:
    """Return the caches of `count` replicas, with requests routed by `routed`."""
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
    """Return the hit rates of full copies and of adapters with one base in equal memory, and their ratio.

    `adapter_size_ratio` is the bytes of a full copy in memory divided by those of an adapter. `copies` is the
    number of full copies that fit into the memory.
    """
    cache = caches(stream(users, exponent, seed))
    adapters, full = cache.hit_rate(places(copies, adapter_size_ratio)), cache.hit_rate(copies)
    return {
        "hit_rate_adapters": adapters,
        "hit_rate_full_copies": full,
        "hit_rate_ratio": adapters / full,
    }
