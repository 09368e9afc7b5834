"""A command in separate namespaces: what it can access, how it ends, and that no process or file of it is
left."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import namespaces
from tests.support.processes import processes
from tests.support.waiting import until

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose path has characters that separate paths and options."""
    folder = tmp_path / "a folder's: nä,me"
    (folder / "image").mkdir(parents=True)
    (folder / "ml").mkdir()
    (folder / "env").symlink_to(sys.prefix)  # the folder of an image has such a link to its environment
    return folder


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """Return a function that starts a command in the image `place / "image"`. Processes that still run at the
    end are killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*command: str, prefix: str = "/usr/local", **environment: str) -> subprocess.Popen[str]:
        scratch = Path(tempfile.mkdtemp(dir=place))
        peers = {"algo-1": "127.0.0.2", "algo-2": "127.0.0.3"}
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | environment
        space: dict[str, Any] = namespaces.layout(
            place / "image", place / "env", prefix, place / "ml", scratch, "algo-1", peers
        )
        space |= {"command": [*command], "environment": environment, "directory": "/"}
        started.append(namespaces.start(space, lambda process: None))
        return started[-1]

    yield run
    for process in started:
        process.send_signal(namespaces.KILL)
        process.communicate()


def said(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=60)
    return output.splitlines()


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143), ("exit 200", 200)]
)
def test_exit_codes_are_those_of_a_container(start: Start, script: str, code: int) -> None:
    assert start("/bin/bash", "-c", script).wait(60) == code


def test_sigterm_reaches_the_first_process_only(start: Start) -> None:
    # given a command with a child process that would report a SIGTERM
    child = "trap 'echo child told' TERM; echo ready; while :; do sleep 0.05; done"
    process = start("/bin/bash", "-c", f'trap "sleep 1; echo told; exit 5" TERM; bash -c "{child}" & wait')
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # when the supervisor gets SIGTERM
    process.terminate()
    # then only the command gets the signal, and when the command ends, the child is killed
    assert said(process) == ["told"]
    assert process.returncode == 5


@pytest.mark.parametrize("end", [namespaces.KILL, signal.SIGKILL])
def test_process_that_left_its_session_is_killed(start: Start, end: signal.Signals) -> None:
    # given a process that has left its session and parent, and ignores all signals that can be ignored
    orphan = "trap '' TERM HUP INT; exec >/dev/null 2>&1; while :; do sleep 1; done"
    process = start(
        "/bin/bash", "-c", f'(setsid bash -c "{orphan}" &) ; echo ready; sleep 300', OF_A_TEST=str(id(end))
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    until(lambda: len(processes("OF_A_TEST", str(id(end)))) >= 3, "the process that leaves its session")
    # when the supervisor gets the signal to end all processes, or is killed
    process.send_signal(end)
    process.wait(60)
    # then the supervisor or the kernel has ended all processes
    if end == namespaces.KILL:
        assert not processes("OF_A_TEST", str(id(end)))
    until(lambda: not processes("OF_A_TEST", str(id(end))), "the end of the processes in the namespaces")


def test_process_that_lost_its_parent_is_reaped(start: Start) -> None:
    # given an orphaned process that ends, in a container whose main process reaps no children
    waits = """
import pathlib, time
deadline = time.monotonic() + 60
def left():
    return [each for each in pathlib.Path("/proc").glob("[0-9]*/stat") if "(sleep)" in each.read_text()]
while left() and time.monotonic() < deadline:
    time.sleep(0.01)
print(len(left()))
"""
    process = start("/bin/bash", "-c", '(setsid sleep 0.1 &); exec python -c "$WAITS"', WAITS=waits)
    # when the orphan has ended, then no zombie is left
    assert said(process) == ["0"]


def test_missing_program_is_named_and_leaves_no_process(start: Start) -> None:
    with pytest.raises(OSError, match="no program nothing-of-the-kind"):
        start("nothing-of-the-kind", OF_A_TEST="missing")
    with pytest.raises(OSError, match="a program /opt that cannot be run: Permission denied"):
        start("/opt", OF_A_TEST="missing")
    assert not processes("OF_A_TEST", "missing")


def test_files_of_the_image_hide_those_of_this_machine(place: Path, start: Start) -> None:
    # given an image with files at paths of this machine, and one below /opt
    for path in ("usr/bin/own", "usr/local/bin/own-too", "etc/own", "opt/program/run"):
        file = place / "image" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\necho {path}\n")
        file.chmod(0o755)
    # when the files are executed, changed and removed in a container
    script = """
own; own-too; /etc/own; /opt/program/run
echo changed > /opt/program/run; rm /usr/bin/own; touch /usr/local/written
cat /opt/program/run; ls /usr/bin/own 2> /dev/null || echo gone
"""
    # then the container uses the image's files, and its changes are not kept
    assert said(start("/bin/bash", "-c", script)) == [
        "usr/bin/own", "usr/local/bin/own-too", "etc/own", "opt/program/run", "changed", "gone"
    ]  # fmt: skip
    assert (place / "image" / "opt/program/run").read_text() == "#!/bin/sh\necho opt/program/run\n"
    assert (place / "image" / "usr/bin/own").exists()
    assert not Path("/usr/local/written").exists()
    assert not Path(sys.prefix, "written").exists()


@pytest.mark.parametrize("prefix", ["/usr/local", "/usr", "/opt/conda", sys.base_prefix])
def test_python_of_the_image_is_that_of_its_environment(start: Start, prefix: str) -> None:
    # The environment's Python is also at the path of this machine's interpreter, from which the environment
    # was made
    script = "import jmespath, sys, pathlib; print(sys.prefix, pathlib.Path(jmespath.__file__).parents[4])"
    process = start(f"{prefix}/bin/python3", "-c", script, prefix=prefix)
    assert said(process) == [f"{prefix} {prefix}"]


def test_home_with_a_python_interpreter_stays_private(
    place: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a Python in the user's home, and an environment of that Python
    home, here = place.parent / "home", Path(sys.executable).resolve()
    for name in ("bin/own-tool", "lib/own/notes", "library/python3.notes", ".ssh/id", "notes"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("private")
    shutil.copy(here, home / "bin" / here.name)
    stdlib = Path(sysconfig.get_path("stdlib"))
    (home / "lib" / stdlib.name).symlink_to(stdlib)
    for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy(library, home / "lib")
    monkeypatch.setenv("HOME", str(home))
    (place / "env").unlink()
    (place / "env" / "bin").mkdir(parents=True)
    (place / "env" / "bin" / "python").symlink_to(home / "bin" / here.name)
    (place / "env" / "pyvenv.cfg").write_text(f"home = {home / 'bin'}\n")
    # when a command of that environment runs
    script = """
import ctypes, json, os, ssl, sys
found = [os.path.join(at, name) for at, _, names in os.walk(sys.argv[1]) for name in names]
print(json.dumps([sys.base_prefix, [os.path.relpath(path, sys.argv[1]) for path in found]]))
"""
    library = {"LD_LIBRARY_PATH": f"{home}/lib"}
    (told,) = said(start("/usr/local/bin/python", "-c", script, str(home), **library))
    # then the command can read that Python, and nothing else in the user's home
    base, found = json.loads(told)
    assert base == str(home)
    assert f"bin/{here.name}" in found
    python = (f"bin/{here.name}", f"lib/{stdlib.name}/", "lib/libpython")
    assert [path for path in found if not path.startswith(python)] == []


def test_program_of_a_package_finds_its_python(start: Start) -> None:
    # the shebang line of the program has the environment's path on this machine
    assert said(start("/usr/local/bin/jp.py", "--help"))[0].startswith("usage: jp.py")


def test_host_names_are_resolved(start: Start) -> None:
    script = "import socket; print(socket.gethostname(), *map(socket.gethostbyname, ('algo-1', 'algo-2')))"
    assert said(start("python", "-c", script)) == ["algo-1 127.0.0.2 127.0.0.3"]


def test_folder_that_was_closed_to_its_owner_is_removed(tmp_path: Path) -> None:
    # given folders without read or write permission, and a link to a path outside of them
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    closed = tmp_path / "closed" / "inner"
    (closed / "deep").mkdir(parents=True)
    (closed / "out").symlink_to(kept)
    for folder in (closed / "deep", closed, closed.parent):
        folder.chmod(0)
    # when the folder is removed, then it is deleted, and nothing outside of it changes
    namespaces.remove(closed.parent)
    assert not closed.parent.exists()
    assert kept.stat().st_mode & 0o777 == 0o500


def test_refused_namespaces_return_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a kernel that refuses namespaces, simulated by an init program whose `unshare` fails
    refusing = tmp_path / "init.py"
    refusing.write_text("import os, sys; os.write(int(sys.argv[1]), b'unshare(): Operation not permitted')")
    monkeypatch.setattr(namespaces, "_INIT", refusing)
    # when namespaces are tried
    reason = namespaces._unavailable.__wrapped__(tmp_path / "home")
    # then the kernel's error is returned, and the check leaves no files
    assert reason == "unshare(): Operation not permitted"
    assert not list((tmp_path / "home").iterdir())


INIT = """
import os, sys
tries = len(os.listdir({folder!r}))
open(os.path.join({folder!r}, str(tries)), "w").close()
sys.stdin.read()
if tries == 0:
    {first}
os.write(int(sys.argv[1]), b"[Errno 1] unshare(): Operation not permitted")
"""
"""An init program that runs the code `first` at its first start, and then refuses namespaces."""


@pytest.mark.parametrize(
    ("first", "seconds", "reason"),
    [
        ("os.write(int(sys.argv[1]), b'[Errno 11] fork: again'); sys.exit()", 60, "[Errno 11] fork: again"),
        (
            "os.close(int(sys.argv[1])); import time; time.sleep(300)",
            1,
            "[Errno 110] a trial container took longer",
        ),
        (
            "os.close(int(sys.argv[1])); os.kill(os.getpid(), 9)",
            60,
            "[Errno 12] a trial container was killed",
        ),
    ],
    ids=["no process", "no time", "no memory"],
)
def test_trial_is_repeated_after_a_transient_failure_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, seconds: int, reason: str
) -> None:
    # given a machine that lacks resources at the first check for namespaces, and refuses namespaces
    # afterwards
    (tries := tmp_path / "tries").mkdir()
    init = tmp_path / "init.py"
    init.write_text(INIT.format(folder=str(tries), first=first))
    monkeypatch.setattr(namespaces, "_INIT", init)
    monkeypatch.setattr(namespaces, "TRIAL_SECONDS", seconds)
    namespaces._unavailable.cache_clear()
    # when the check runs three times
    try:
        told = [namespaces.unavailable(tmp_path / "home") for _ in range(3)]
    finally:
        namespaces._unavailable.cache_clear()
    # then the first failure is reported and not cached, the kernel's refusal is cached, and no file is left
    assert told[0].startswith(reason)
    assert told[1:] == ["[Errno 1] unshare(): Operation not permitted"] * 2
    assert len(list(tries.iterdir())) == 2
    assert not list((tmp_path / "home").iterdir())


def test_error_of_the_init_process_keeps_its_errno(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init = tmp_path / "init.py"
    init.write_text(
        "import os, sys; os.write(int(sys.argv[1]), b'[Errno 28] mount(a): No space left on device')"
    )
    monkeypatch.setattr(namespaces, "_INIT", init)
    with pytest.raises(OSError, match=r"^\[Errno 28\] mount\(a\): No space left on device$") as caught:
        namespaces.start({}, lambda process: None)
    assert caught.value.errno == errno.ENOSPC
