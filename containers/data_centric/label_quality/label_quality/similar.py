"""Similar examples: nearest neighbours, duplicates and outliers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 10


@dataclass(frozen=True)
class Similar:
    neighbours: Any
    """[n, k], indices of the nearest other examples, nearest first"""
    distances: Any
    """[n, k], Euclidean distances to these neighbours"""
    groups: Any
    """[n]; examples with the same number are exact or near-duplicates of each other"""
    exact: Any
    """[n]; examples with the same number are exact duplicates of each other"""
    outlying: Any
    """[n]: mean distance to the neighbours, as a multiple of the median over all examples"""


def compare(points: Any, digests: Sequence[Hashable], duplicate_distance: float) -> Similar:
    """Find the neighbours and duplicates of points [n, d].

    :param digests: equal for examples of equal content
    :param duplicate_distance: maximum distance between near-duplicates, as a multiple of the median distance
        between an example and its nearest neighbour of different content
    """
    exact = _numbered(digests)
    count = min(NEIGHBOURS, len(points) - 1)
    distances, neighbours = _others(points, count)
    different = exact[neighbours] != exact[:, None]
    # infinite for an example whose neighbours are all exact duplicates
    nearest = np.where(different, distances, np.inf).min(1)
    usual = float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else 0.0
    near = distances <= duplicate_distance * usual
    groups = _connected(neighbours, near, exact)
    mean = distances.mean(1)
    return Similar(neighbours, distances, groups, exact, mean / (float(np.median(mean)) or 1.0))


def _numbered(digests: Sequence[Hashable]) -> Any:
    """Return numbers [n] that are equal for equal digests."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests])


def _others(points: Any, count: int) -> tuple[Any, Any]:
    """Return distances and indices [n, count] of each point's nearest other points."""
    distances, found = NearestNeighbors(n_neighbors=count + 1).fit(points).kneighbors(points)
    # The first neighbour of a point may be an identical point instead of the point itself
    own = found == np.arange(len(points))[:, None]
    own[~own.any(1), -1] = True
    return distances[~own].reshape(-1, count), found[~own].reshape(-1, count)


def _connected(neighbours: Any, near: Any, exact: Any) -> Any:
    """Return each example's group number [n]. Near and exact duplicates, and their duplicates in turn, are in
    one group."""
    size, count = neighbours.shape
    first = np.unique(exact, return_index=True)[1][exact]
    rows = np.concatenate([np.repeat(np.arange(size), count)[near.ravel()], np.arange(size)])
    columns = np.concatenate([neighbours.ravel()[near.ravel()], first])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    return connected_components(graph, directed=False)[1]
