"""The file `local/fidelity.toml`, and the documentation page with its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

import local.sagemaker.http  # noqa: F401 - registers the operations
from documentation import fidelity
from documentation.fidelity import Entry
from local.sagemaker import api


def test_entries_have_a_class_a_test_and_what_is_missing() -> None:
    entries = fidelity.read()
    assert [each for name, entry in entries.items() for each in fidelity.problems(name, entry)] == []


def test_page_has_the_tables_of_the_file() -> None:
    # if it fails, run `make pages`
    text = fidelity.PAGE.read_text()
    assert text == fidelity.page(text, fidelity.read())


def test_entries_of_sagemaker_are_its_built_operations() -> None:
    names = set(fidelity.operations("sagemaker")) - set(fidelity.unbuilt(fidelity.read()))
    assert names == set(api.OPERATIONS)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            Entry("real", "tests/README.md"),
            "class of s3:X must be one of live, recorded, refused, got 'real'",
        ),
        (
            Entry("recorded", "tests/README.md"),
            "missing of s3:X must name the effect that is missing, got ''",
        ),
        (Entry("live", "tests/no.py"), "test of s3:X must be a file of tests or a test in it"),
        (Entry("live", "tests/unit/test_fidelity.py::test_no"), "test of s3:X must be a file"),
    ],
)
def test_invalid_entry_is_reported(entry: Entry, said: str) -> None:
    (problem,) = fidelity.problems("s3:X", entry)
    assert problem.startswith(said)


def test_unknown_field_of_an_entry_is_named(tmp_path: Path) -> None:
    file = tmp_path / "fidelity.toml"
    file.write_text('[calls]\n"s3:X" = { class = "live", note = "n" }\n')
    with pytest.raises(ValueError, match="s3:X must have class, test and missing only, got note"):
        fidelity.read(file)


def test_written_entries_are_read_again(tmp_path: Path) -> None:
    entries = {"s3:X": Entry("live", "a.py"), "AWS::S3::Bucket": Entry("recorded", "b.py", 'the "effect"')}
    fidelity.write(entries, tmp_path / "fidelity.toml")
    assert fidelity.read(tmp_path / "fidelity.toml") == entries


def test_call_without_an_entry_is_unexpected() -> None:
    # given the calls that two pytest workers recorded
    records = ["a.py\ns3:X\nb.py\ns3:Y\n", "c.py\ns3:X\nAWS::S3::Bucket\n"]
    # when the records are read, then each call has its first test file
    found = fidelity.observed(records)
    assert found == {"s3:X": "a.py", "s3:Y": "b.py", "AWS::S3::Bucket": "c.py"}
    # and calls are unexpected if they have no entry, or if their entry is `refused`
    entries = {"s3:X": Entry("live", "a.py"), "s3:Y": Entry("refused", "b.py")}
    assert fidelity.unexpected(found, entries) == ["AWS::S3::Bucket", "s3:Y"]
