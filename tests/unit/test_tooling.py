"""Environments are made once, found again by content, and made again after a failure."""

import subprocess

import pytest

from tooling import envs


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDPLAN_HOME", str(tmp_path))
    # The installer is the same everywhere: borrow it.
    program = envs.ROOT / ".groundplan" / "envs" / "uv" / "bin" / "uv"
    monkeypatch.setattr(envs, "uv", lambda: program)
    return tmp_path


def test_an_environment_holds_what_is_locked_and_is_not_built_twice(own_home, capfd):
    # Given a locked requirement
    lock = own_home / "requirements.txt"
    lock.write_text("six==1.17.0\n")

    # When it is asked for twice
    python = envs.build(own_home / "envs" / "it", lock)
    envs.build(own_home / "envs" / "it", lock)

    # Then it holds the package, and was installed once
    shown = subprocess.run(
        [python, "-c", "import six; print(six.__version__)"], capture_output=True, text=True
    )
    assert shown.stdout.strip() == "1.17.0"
    assert capfd.readouterr().err.count("installed it in") == 1


def test_a_changed_lock_file_is_followed_to_the_letter(own_home):
    lock = own_home / "requirements.txt"
    lock.write_text("six==1.17.0\n")
    python = envs.build(own_home / "envs" / "it", lock)

    # When the lock file no longer names the package
    lock.write_text("# nothing\n")
    envs.build(own_home / "envs" / "it", lock)

    # Then the environment no longer has it
    assert subprocess.run([python, "-c", "import six"], capture_output=True).returncode != 0


def test_a_failed_installation_is_tried_again(own_home):
    lock = own_home / "requirements.txt"
    lock.write_text("six==0.0.0.nowhere\n")
    with pytest.raises(subprocess.CalledProcessError):
        envs.build(own_home / "envs" / "it", lock)

    # When the lock file is mended
    lock.write_text("six==1.17.0\n")
    python = envs.build(own_home / "envs" / "it", lock)

    # Then it works
    assert subprocess.run([python, "-c", "import six"]).returncode == 0


def test_an_unknown_environment_is_named():
    with pytest.raises(ValueError, match="'nowhere' is not one of app, cloud"):
        envs.environment("nowhere")
