"""Commands of a Dockerfile that run while the image is built."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local import namespaces
from local.images import build, commands, store
from local.images.dockerfile import BuildError
from local.images.store import Image
from tooling import envs

FROM = "FROM public.ecr.aws/docker/library/python:3.11-slim\n"
Build = Callable[..., Image]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A separate image store for this module, with the project's installation of uv."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "envs").mkdir()
    (folder / "images").mkdir()
    (folder / "envs" / "uv").symlink_to(envs.uv().parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUNDPLAN_HOME", str(folder))
        if reason := namespaces.unavailable(folder, kept=True):
            pytest.skip(f"this machine cannot run commands while it builds an image: {reason}")
        yield folder


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def built(tmp_path: Path, said: list[str]) -> Build:
    """Return a function that builds an image with a module `work` of the given code. The given lines of the
    Dockerfile run the module."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("copied")
    (tmp_path / "data" / "b.csv").write_text("copied")

    def run(code: str, lines: str = "RUN python -m work\n", **build_args: str) -> Image:
        (tmp_path / "work.py").write_text(code)
        text = f"{FROM}ENV PYTHONPATH=/opt/program\nCOPY work.py /opt/program/\nCOPY data /opt/data\n{lines}"
        (tmp_path / "Dockerfile").write_text(text)
        return build.build(tmp_path, build_args=build_args, say=said.append)

    return run


def test_files_that_a_command_writes_are_in_the_image(built: Build) -> None:
    # given a command that adds and changes files, followed by an instruction that replaces one of them
    code = """
import pathlib, sys
out = pathlib.Path("/opt/out/deep")
out.mkdir(parents=True)
(out / "file").write_text(sys.argv[1])
(out / "program").write_text("#!/bin/sh")
(out / "program").chmod(0o700)
(out / "link").symlink_to("file")
(out / "empty").mkdir()
(out / "linked").symlink_to("empty")
for path in ("/opt/data/a.csv", "/opt/data/b.csv", "/usr/local/share/c.csv", "/opt/ml/d.csv"):
    pathlib.Path(path).parent.mkdir(exist_ok=True)
    pathlib.Path(path).write_text("written")
for path in ("/tmp/x", "/var/tmp/x", "/root/x", "/run/x", "/dev/shm/x"):
    pathlib.Path(path).write_text("temporary")
"""
    lines = 'RUN python3 -B -m work "a word"\nCOPY data/b.csv /opt/data/b.csv\n'

    # when
    root = built(code, lines).folder / "root"

    # then the image has the written files, without temporary ones
    out = root / "opt/out/deep"
    assert (out / "file").read_text() == "a word"
    assert (out / "link").readlink() == Path("file")
    assert (out / "empty").is_dir()
    files = sorted(f"/{each.relative_to(root)}" for each in root.rglob("*") if not each.is_dir())
    assert files == [
        "/opt/data/a.csv",
        "/opt/data/b.csv",
        "/opt/ml/d.csv",
        *(f"/opt/out/deep/{name}" for name in ("file", "link", "program")),
        "/opt/program/work.py",
        "/usr/local/share/c.csv",
    ]
    assert (root / "opt/data/a.csv").read_text() == "written"
    assert (root / "opt/data/b.csv").read_text() == "copied"
    # and no container can change these files
    modes = {name: (out / name).stat().st_mode & 0o777 for name in ("file", "program")}
    assert modes == {"file": 0o444, "program": 0o555}


def test_command_reads_files_of_an_earlier_one(built: Build) -> None:
    code = "import sys; open('/opt/log', 'a').write(sys.argv[1])\n"
    image = built(code, 'RUN python -m work one && mkdir /opt/x\nRUN ["python", "-m", "work", "two"]\n')
    assert (image.folder / "root/opt/log").read_text() == "onetwo"


def test_command_has_the_environment_of_the_image_only(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    # given credentials in the environment of the process that builds
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the builder")
    monkeypatch.setenv("SSL_CERT_FILE", "/certificates.pem")
    code = "import json, os; json.dump([os.getcwd(), dict(os.environ)], open('/opt/told', 'w'))\n"
    # when instructions before and after a command change its environment
    lines = "ARG GIVEN\nENV OWN=$GIVEN\nWORKDIR /opt/work\nRUN python -m work\nENV OWN=later\nWORKDIR /opt\n"
    image = built(code, lines, GIVEN="given")
    # then the command has the environment that the instructions before it have set
    folder, environment = json.loads((image.folder / "root/opt/told").read_text())
    assert folder == "/opt/work"
    assert environment.pop("PATH").startswith("/usr/local/bin:")
    assert environment == {
        "GIVEN": "given",
        "HOME": "/root",
        "HOSTNAME": "build",
        "LANG": "C.UTF-8",
        "OWN": "given",
        "PYTHONPATH": "/opt/program",
        "TZ": "UTC",
    }


def test_command_has_no_network(built: Build) -> None:
    # given a port of this machine that accepts connections
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            f"import socket; found = socket.socket().connect_ex(('127.0.0.1', {port}));"
            " open('/opt/told', 'w').write(str(found))"
        )
        # when
        image = built(code)
    # then the command cannot connect to it
    assert os.strerror(int((image.folder / "root/opt/told").read_text())) == "Connection refused"


def test_failed_command_prints_its_output_and_leaves_no_files(built: Build) -> None:
    built("")
    before = set(store.folder().iterdir())
    with pytest.raises(BuildError) as caught:
        built("import sys; print('the reason'); sys.exit(3)")
    assert str(caught.value) == "Dockerfile:5: RUN python -m work: the command exited with 3:\nthe reason"
    assert set(store.folder().iterdir()) == before


def test_command_is_ended_after_its_time_limit(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "SECONDS", 1)
    with pytest.raises(BuildError, match="RUN python -m work: the command did not end within 1 seconds"):
        built("import time; time.sleep(300)")


def test_command_runs_once_for_the_same_content(built: Build, said: list[str]) -> None:
    # given a command that writes a different file each time
    code = "import uuid; print('at work'); open('/opt/told', 'w').write(str(uuid.uuid4()))\n"
    first = built(code)
    # when the image is built again
    assert built(code) == first
    # then the command does not run again
    assert [line.strip() for line in said].count("at work") == 1
    # but the command runs again when arguments, files copied before it, or the order of instructions change
    others = [
        built(code, "RUN python -m work now\n"),
        built(code + "# changed\n"),
        built(code, "COPY data /opt/more\nRUN python -m work\n"),
        built(code, "RUN python -m work\nCOPY data /opt/more\n"),
    ]
    assert len({image.id for image in (first, *others)}) == 5
    assert len({(image.folder / "root/opt/told").read_text() for image in (first, *others)}) == 5


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.remove('/opt/data/a.csv')", "/opt/data/a.csv was removed"),
        ("shutil.rmtree('/opt/data')", "/opt/data was removed"),
        ("shutil.rmtree('/opt/data'); os.mkdir('/opt/data')", "/opt/data was replaced"),
        ("os.remove('/opt/data/a.csv'); os.mkdir('/opt/data/a.csv')", "/opt/data/a.csv was replaced"),
        ("os.mkfifo('/opt/pipe')", "/opt/pipe is neither a file, a folder nor a symbolic link"),
        ("os.symlink('/etc/hosts', '/opt/link')", "the link /opt/link -> /etc/hosts must be relative"),
        ("os.symlink('../../etc', '/opt/link')", "the link /opt/link -> ../../etc must be relative"),
    ],
)
def test_unsupported_result_of_a_command_is_refused_with_the_reason(
    built: Build, code: str, reason: str
) -> None:
    with pytest.raises(BuildError, match=f"RUN python -m work: could not keep the files .*: {reason}"):
        built(f"import os, shutil; {code}")


def test_program_that_is_not_in_the_image_is_named(built: Build) -> None:
    with pytest.raises(BuildError, match=r"could not be started: the image has no program python3\.99"):
        built("", "RUN python3.99 -m work\n")


def test_image_is_rebuilt_when_its_skipped_command_can_run(
    built: Build, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "open('/opt/told', 'w').write('ran')\n"
    # given a kernel that refuses namespaces
    with monkeypatch.context() as patch:
        patch.setattr(build, "_unavailable", lambda: "refused by the test")
        skipped = built(code)
        assert build.current(skipped)
    assert not (skipped.folder / "root/opt/told").exists()
    assert [line for line in said if "not run" in line] == [
        "RUN python -m work: not run: it needs Linux namespaces, which are not available: refused by the test"
    ]
    # when the kernel allows namespaces
    assert not build.current(skipped)
    ran = built(code)
    # then the command runs, and the build makes another image
    assert ran.id != skipped.id
    assert (ran.folder / "root/opt/told").read_text() == "ran"
    assert build.current(ran)
