"""The options of the benchmark on CIFAR-10."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.data_centric import cifar, inside


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of CIFAR-10; the environment variable GROUNDPLAN_DATA contains the folder's
    path."""
    monkeypatch.setenv("GROUNDPLAN_DATA", str(tmp_path))
    for name in cifar.FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_default_size_is_for_a_cpu(folder: Path) -> None:
    small, whole = cifar.parse([]), cifar.parse(["--whole", "--epochs", "7", "--set", "learning_rate=0.2"])
    assert (small.pictures, small.epochs, small.model, small.set) == (3_000, 20, "small", ["augment=true"])
    assert (whole.pictures, whole.epochs, whole.model) == (50_000, 7, "resnet18")
    assert (whole.fast_epochs, whole.fast_model) == (24, "resnet9")
    # values of --set come after the defaults, and for an option with several values the last one is used
    assert whole.set[-1] == "learning_rate=0.2"
    assert small.data == folder


def test_measures_with_the_threads_that_are_chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(inside, "run", lambda *given, **named: called.append((*given, named)) or 0)
    assert cifar.main(["--threads", "3", "--json", "out.json"]) == 0
    ((module, options, named),) = called
    assert (module, named, options["threads"]) == ("cifar_measured", {"threads": 3}, 3)
    assert options["json"] == Path.cwd() / "out.json"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fractions", "1"], "must be a number between 0 and 1, got 1"),
        (["--pictures", "0"], "must be a whole number from 1, got 0"),
        (["--data", "/gone"], "there is no cifar10/train.parquet and no cifar10/test.parquet in /gone"),
    ],
)
def test_invalid_cifar_option_is_refused(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cifar.parse(arguments)
    assert message in capsys.readouterr().err


def test_missing_data_folder_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GROUNDPLAN_DATA", raising=False)
    with pytest.raises(SystemExit):
        cifar.parse([])
    assert "give --data or set GROUNDPLAN_DATA" in capsys.readouterr().err


def test_measurement_gets_the_options_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[list[str], dict[str, str]]] = []

    class Done:
        returncode = 0

    def run(command: list[str], *, cwd: Path, env: dict[str, str]) -> Done:
        called.append((command[1:], env))
        return Done()

    monkeypatch.setattr(inside.subprocess, "run", run)
    monkeypatch.setattr(inside.envs, "environment", lambda _: Path("python"))
    options: dict[str, Any] = {"first_seed": 0, "whole": True, "json": None, "development": False, "set": []}
    options["fractions"] = [0.5]
    assert inside.run("cifar_measured", options, threads=2) == 0
    ((command, environment),) = called
    assert command == [
        "-m",
        "benchmarks.data_centric.cifar_measured",
        *("--first-seed", "0", "--whole", "--fractions", "0.5"),
    ]
    assert environment["OMP_NUM_THREADS"] == "2"
