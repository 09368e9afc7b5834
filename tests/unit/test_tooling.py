"""Environments are built once, found again by content, and built again after a failure."""

import subprocess

import pytest

from tooling import envs


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDPLAN_HOME", str(tmp_path))
    # The installer `uv` does not depend on the home folder, so the tests use the project's `uv`
    program = envs.ROOT / ".groundplan" / "envs" / "uv" / "bin" / "uv"
    monkeypatch.setattr(envs, "uv", lambda: program)
    return tmp_path


def test_environment_has_the_locked_packages_and_is_built_once(own_home, capfd):
    # Given a locked requirement
    lock = own_home / "requirements.txt"
    lock.write_text("six==1.17.0\n")

    # When the environment is built twice
    python = envs.build(own_home / "envs" / "it", lock)
    envs.build(own_home / "envs" / "it", lock)

    # Then the environment has the package, which was installed once
    shown = subprocess.run(
        [python, "-c", "import six; print(six.__version__)"], capture_output=True, text=True
    )
    assert shown.stdout.strip() == "1.17.0"
    assert capfd.readouterr().err.count("installed it in") == 1


def test_packages_removed_from_the_lock_file_are_uninstalled(own_home):
    lock = own_home / "requirements.txt"
    lock.write_text("six==1.17.0\n")
    python = envs.build(own_home / "envs" / "it", lock)

    # When the lock file no longer names the package
    lock.write_text("# nothing\n")
    envs.build(own_home / "envs" / "it", lock)

    # Then the environment no longer has the package
    assert subprocess.run([python, "-c", "import six"], capture_output=True).returncode != 0


def test_failed_installation_is_tried_again(own_home):
    lock = own_home / "requirements.txt"
    lock.write_text("six==0.0.0.nowhere\n")
    with pytest.raises(subprocess.CalledProcessError):
        envs.build(own_home / "envs" / "it", lock)

    # When the lock file is corrected
    lock.write_text("six==1.17.0\n")
    python = envs.build(own_home / "envs" / "it", lock)

    # Then the installation succeeds
    assert subprocess.run([python, "-c", "import six"]).returncode == 0


def test_unknown_environment_is_named():
    with pytest.raises(ValueError, match="environment must be one of app, cloud"):
        envs.environment("nowhere")


def test_pip_settings_with_special_characters_are_read(tmp_path, monkeypatch):
    # Given pip's settings with quotes in the index and in folder names, and an environment variable that
    # overrides one of them
    shown = [
        ":env:.index-url='https://person:pa%27ss@example.org/simple'",
        "global.find-links='\\n/opt/wheels\\n/opt/more'",
        "global.index-url='https://example.org/other'",
        'install.find-links="/opt/jane\'s"',
    ]
    python = tmp_path / "a python's"
    python.write_text("#!/bin/sh\ncat <<'EOF'\n" + "\n".join(shown[:3]) + "\nEOF\n")
    python.chmod(0o755)
    monkeypatch.setattr(envs, "MACHINE_PYTHON", python)
    envs.pip_settings.cache_clear()

    # When pip's settings are converted to settings of uv
    settings = envs.pip_settings()

    # Then each setting is complete
    assert settings["UV_DEFAULT_INDEX"] == "https://person:pa%27ss@example.org/simple"
    assert settings["UV_FIND_LINKS"] == "/opt/wheels,/opt/more"
    python.write_text("#!/bin/sh\ncat <<'EOF'\n" + shown[3] + "\nEOF\n")
    envs.pip_settings.cache_clear()
    assert envs.pip_settings()["UV_FIND_LINKS"] == "/opt/jane's"
    envs.pip_settings.cache_clear()


@pytest.mark.parametrize(
    ("closed", "said"),
    [("project", "a clone of your own"), ("home", "GROUNDPLAN_HOME"), ("person", "HOME to a folder")],
)
def test_folder_that_cannot_be_written_is_named(closed, said, tmp_path, monkeypatch):
    # Given the configured folders, of which one is not writable for this user
    folders = {name: tmp_path / name for name in ("project", "home", "person")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(envs, "ROOT", folders["project"])
    monkeypatch.setenv("GROUNDPLAN_HOME", str(folders["home"] / "made" / "later"))
    monkeypatch.setenv("HOME", str(folders["person"]))
    assert envs.unwritable() is None
    monkeypatch.setattr(
        envs.os, "access", lambda path, mode: path != folders[closed]
    )  # os.access is replaced, because root can write to any folder

    # Then the error names the folder and the remedy in one sentence
    problem = envs.unwritable()
    assert problem is not None
    assert str(folders[closed]) in problem
    assert said in problem
