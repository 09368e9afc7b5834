"""Neighbours, duplicates and outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from label_quality.similar import NEIGHBOURS, compare


def cloud(size: int = 60) -> Any:
    return np.random.default_rng(0).normal(size=(size, 5))


def test_neighbours_are_those_of_all_distances() -> None:
    points = cloud()
    found = compare(points, range(60), 0.0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (found.neighbours == distances.argsort(1)[:, :NEIGHBOURS]).all()
    assert found.distances == pytest.approx(np.sort(distances, 1)[:, :NEIGHBOURS])


def test_more_copies_than_neighbours_are_one_group() -> None:
    # given three times as many copies as the number of neighbours that are searched
    points = np.concatenate([cloud(), np.repeat(cloud()[:1], 3 * NEIGHBOURS, 0)])
    digests = [*range(60), *[0] * 3 * NEIGHBOURS]
    # when
    found = compare(points, digests, 0.0)
    # then all copies are in one group, and no example is its own neighbour
    assert len(set(found.groups[60:])) == 1
    assert found.groups[0] == found.groups[60] == found.groups[-1]
    assert len(np.unique(found.groups)) == 60
    assert (found.neighbours != np.arange(len(points))[:, None]).all()


def test_near_duplicates_depend_on_the_usual_distance() -> None:
    # given two points whose distance is a tenth of the usual distance, which is the median distance to the
    # nearest neighbour
    points = cloud()
    usual = np.median(compare(points, range(60), 0.0).distances[:, 0])
    points = np.concatenate([points, points[:1] + 0.1 * usual * np.eye(5)[:1]])
    # when, then
    assert compare(points, range(61), 0.2).groups[60] == compare(points, range(61), 0.2).groups[0]
    assert len(np.unique(compare(points, range(61), 0.2).groups)) == 60
    assert len(np.unique(compare(points, range(61), 0.05).groups)) == 61


def test_copies_do_not_change_the_usual_distance() -> None:
    # given every point twice, so that the nearest neighbour of each point is its copy
    points, digests = np.repeat(cloud(), 2, 0), np.repeat(np.arange(60), 2).tolist()
    found = compare(points, digests, 0.2)
    assert len(np.unique(found.groups)) == len(np.unique(compare(cloud(), range(60), 0.2).groups))


def test_distant_point_is_outlying() -> None:
    points = np.concatenate([cloud(), [[9.0] * 5]])
    found = compare(points, range(61), 0.3)
    assert found.outlying.argmax() == 60
    assert found.outlying[60] > 3 > np.median(found.outlying) == pytest.approx(1)


def test_two_points_are_neighbours() -> None:
    assert compare(np.array([[0.0], [1.0]]), "ab", 0.3).neighbours.tolist() == [[1], [0]]
