"""Payloads of transform jobs."""

from __future__ import annotations

import io

import pytest

from local.sagemaker.transform.container import Limits, environment
from local.sagemaker.transform.payloads import PayloadError, assembled, payloads, records


@pytest.mark.parametrize(
    ("split", "found"),
    [
        ("None", [b"a,1\r\nb\rc\n\nd"]),
        ("Line", [b"a,1\r\n", b"b\rc\n", b"\n", b"d"]),
    ],
)
def test_records_are_split_at_newlines_only(split: str, found: list[bytes]) -> None:
    assert list(records(io.BytesIO(b"a,1\r\nb\rc\n\nd"), split)) == found


@pytest.mark.parametrize(
    ("strategy", "most", "found"),
    [
        ("SingleRecord", 100, [b"1\n", b"22\n", b"3\n"]),
        ("MultiRecord", 100, [b"1\n22\n3\n"]),
        ("MultiRecord", 5, [b"1\n22\n", b"3\n"]),
        ("MultiRecord", 4, [b"1\n", b"22\n", b"3\n"]),
    ],
)
def test_payloads_hold_as_many_records_as_allowed(strategy: str, most: int, found: list[bytes]) -> None:
    assert list(payloads([b"1\n", b"22\n", b"3\n"], strategy, most)) == found


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_record_above_the_limit_is_an_error(strategy: str) -> None:
    assert list(payloads([b"123"], strategy, 3)) == [b"123"]
    with pytest.raises(PayloadError, match="Too much data for max payload size"):
        list(payloads([b"1", b"1234"], strategy, 3))


def test_answers_are_joined_or_get_a_line_each() -> None:
    answers = [b"a", b"b\n", b""]
    assert assembled(answers, "None") == b"ab\n"
    assert assembled(answers, "Line") == b"a\nb\n\n"
    assert assembled([], "Line") == b""


def test_limits_come_from_request_then_container_then_defaults() -> None:
    said = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 2}
    assert Limits.of({}, {}) == Limits(1, "MultiRecord", 6)
    assert Limits.of({}, said) == Limits(8, "SingleRecord", 2)
    given = {"MaxConcurrentTransforms": 3, "BatchStrategy": "MultiRecord", "MaxPayloadInMB": 1}
    assert Limits.of(given, said) == Limits(3, "MultiRecord", 1)
    # 0 in the request means that it is not set; invalid values from the container are ignored
    assert Limits.of({"MaxConcurrentTransforms": 0}, said).concurrent == 8
    wrong = {"MaxConcurrentTransforms": "many", "BatchStrategy": ["x"], "MaxPayloadInMB": True}
    assert Limits.of({}, wrong) == Limits(1, "MultiRecord", 6)


def test_container_environment_has_values_of_the_request_only() -> None:
    assert environment({}) == {"SAGEMAKER_BATCH": "true"}
    given = {"MaxPayloadInMB": 6, "BatchStrategy": "MultiRecord", "Environment": {"A": "b"}}
    assert environment(given) == {
        "A": "b",
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
    }
