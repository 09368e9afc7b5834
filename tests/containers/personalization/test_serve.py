"""The serving container of a multi-model endpoint, with a real Triton."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from benchmarks.personalization.serving import archived, endpoint
from local.images.store import Image as BuiltImage
from tests.support.personalization.serving import (
    ASKED,
    BUDGET,
    PATIENCE,
    PROMPT,
    ROUNDING,
    Container,
    apart,
    expected,
    write_manifest,
)
from tests.support.processes import listening
from tests.support.waiting import until
from toolkit.identity import identity


def test_image_has_the_label_of_multi_model_support(built: BuiltImage):
    labels = built.config["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"


def test_model_is_loaded_once_listed_and_unloaded(container: Container, made: Path):
    name, folder = "user/model.tar.gz", made / "adapters" / "alice"
    entry = {"modelName": name, "modelUrl": str(folder)}
    assert container.call("GET", f"/models/{name}")[0] == 404
    assert container.load(name, folder) == (200, entry)
    assert container.load(name, folder)[0] == 409
    assert container.load("second", made / "adapters" / "bob")[0] == 200
    assert container.call("GET", f"/models/{name}") == (200, entry)
    status, page = container.call("GET", "/models?limit=1")
    assert (status, page["models"]) == (200, [entry])
    assert container.call("GET", f"/models?limit=1&next_page_token={page['nextPageToken']}")[1] == {
        "models": [{"modelName": "second", "modelUrl": str(made / "adapters" / "bob")}]
    }
    assert container.unload(name) == 200
    assert container.unload(name) == 404
    assert container.invoke(name)[0] == 404
    assert container.load(name, folder)[0] == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        ([], "body"),
        ({}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * 501}, "prompt"),
        ({"prompt": "cat\u0000"}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "cat", "seed": -1}, "seed"),
        ({"prompt": "cat", "seed": 2**32}, "seed"),
        ({"prompt": "cat", "seed": "7"}, "seed"),
        ({"prompt": "cat", "count": 0}, "count"),
        ({"prompt": "cat", "count": 5}, "count"),
        ({"prompt": "cat", "count": True}, "count"),
        ({"prompt": "cat", "steps": 101}, "steps"),
        ({"prompt": "cat", "guidance": -1}, "guidance"),
        ({"prompt": "cat", "guidance": "NaN"}, "guidance"),
        ({"prompt": "cat", "negative": "dog"}, "negative"),
    ],
)
def test_invalid_request_is_refused_with_its_field_and_allowed_values(
    container: Container, made: Path, body, field
):
    container.load("alice", made / "adapters" / "alice")
    status, answer = container.call("POST", "/models/alice/invoke", body)
    assert status == 400
    assert re.match(rf"(the )?{field} must |field {field} is unknown", answer["error"])


@pytest.mark.parametrize(
    "body",
    [
        {"model_name": "x", "url": "/" + "x" * 1000},
        {"model_name": "x", "url": "/\ud800"},
        {"model_name": "x", "url": "/nul\0"},
        {"model_name": "\ud800", "url": "/srv"},
        {"model_name": "x\ny", "url": "/srv"},
        {"model_name": "x", "url": "/"},
        {"model_name": "x" * 1025, "url": "/srv"},
        {"model_name": ["x"], "url": {}},
        b"[" * 60_000,
        b"\xff",
    ],
    ids=range(10),
)
def test_invalid_load_request_is_refused(container: Container, body: Any):
    status, answer = container.call("POST", "/models", body)
    assert (status, bool(answer["error"])) == (400, True)


def test_triton_listens_on_no_port_and_its_socket_is_private(container: Container):
    # then the API's port is the only port on which a process of the container listens
    ports = {port for _, port in listening(container.children)}
    assert ports == {container.port}
    # and Triton's socket is in a folder that only its owner can enter
    folder = container.socket.parent.stat()
    assert (folder.st_uid, stat.S_IMODE(folder.st_mode)) == (os.getuid(), 0o700)
    # and the shared memory of Triton and its models is private
    mapped = Path(f"/proc/{container.base_process}/maps").read_text().split()
    shared = {Path(name) for name in mapped if name.startswith("/dev/shm/triton")}  # noqa: S108
    assert shared
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in shared} == {0}
    # and another user cannot connect to the socket; tested only as root, which can run a process as another
    # user
    if os.getuid() == 0:
        assert reached(container.socket) is True
        assert reached(container.socket, user=65534) is False


def reached(path: Path, user: int = 0) -> bool | None:
    """Return whether a process of this user has permission to connect to a socket; None after any other
    error."""
    child = os.fork()
    if child == 0:  # a forked process, because the other user may not be able to read a program file
        code = 2
        try:
            if user:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            os.chdir(path.parent)
            socket.socket(socket.AF_UNIX).connect(path.name)
            code = 0
        except PermissionError:
            code = 1
        finally:
            os._exit(code)
    return {0: True, 1: False}.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_request_of_a_web_page_is_refused(container: Container, made: Path):
    alice = {"model_name": "alice", "url": str(made / "adapters" / "alice")}
    for page in ({"Origin": "http://page.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert container.call("POST", "/models", alice, **page)[0] == 403
        assert container.call("POST", "/models/alice/invoke", ASKED, **page)[0] == 403
        assert container.call("DELETE", "/models/alice", **page)[0] == 403
    assert container.call("GET", "/models", **{"Accept-Language": "en"})[0] == 403
    assert container.call("GET", "/models") == (200, {"models": []})
    assert container.call("GET", "/ping", Origin="http://page.example")[0] == 200


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_pictures_equal_those_of_diffusers_with_the_adapter(container: Container, made: Path, name: str):
    container.load(name, made / "adapters" / name)
    first, second = container.draw(name, seed=7, count=2)
    assert apart(first, expected(made, f"{name}-7")) <= ROUNDING
    assert apart(second, expected(made, f"{name}-8")) <= ROUNDING


def test_picture_does_not_depend_on_concurrent_requests(container: Container, made: Path):
    # given the picture of each request when it is sent alone
    for name in ("alice", "bob"):
        container.load(name, made / "adapters" / name)
    requests = [
        (name, {"seed": seed, "prompt": prompt})
        for name in ("alice", "bob")
        for seed in (1, 2)
        for prompt in (PROMPT, "a drawing of sks dog by night")
    ]
    alone = [container.draw(name, **request)[0] for name, request in requests]
    # when the requests are sent concurrently, three times each
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda each: container.draw(each[0], **each[1])[0], requests * 3))
    # then each request gets the same picture as when it is sent alone
    for number, picture in enumerate(together):
        assert apart(picture, alone[number % len(alone)]) <= ROUNDING
    different = [apart(one, other) for one in alone for other in alone if one is not other]
    assert min(different) > 10 * ROUNDING


def test_switching_between_adapters_does_not_change_pictures(container: Container, made: Path):
    for name in ("alice", "bob"):
        container.load(name, made / "adapters" / name)
    first = container.draw("alice", seed=7)[0]
    for _ in range(10):
        container.draw("bob", seed=7, steps=1)
        container.draw("alice", seed=7, steps=1)
    assert apart(container.draw("alice", seed=7)[0], first) == 0


def test_concurrent_requests_share_batches(container: Container, made: Path):
    container.load("alice", made / "adapters" / "alice")
    before = container.batches()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: container.draw("alice", seed=seed), range(24)))
    requests, batches = (after - then for after, then in zip(container.batches(), before, strict=True))
    assert requests == 24
    assert batches < 16


def test_load_returns_507_when_memory_is_full_until_an_unload(container: Container, made: Path):
    large = made / "adapters" / "large"
    count = BUDGET // (large / "adapter_model.safetensors").stat().st_size
    names = [f"large-{number}" for number in range(count)]
    assert [container.load(name, large)[0] for name in names] == [200] * count
    status, answer = container.load("one-more", large)
    assert status == 507
    assert answer["error"].startswith("could not reserve")
    assert container.load("one-more", large)[0] == 507
    assert container.unload(names[0]) == 200
    assert container.load("one-more", large)[0] == 200


def test_unload_frees_the_memory(container: Container, made: Path):
    large = made / "adapters" / "large"
    size = (large / "adapter_model.safetensors").stat().st_size
    count = BUDGET // size

    def round_() -> tuple[int, int]:
        """Load and use all adapters, then unload them; return the container's memory before and after the
        unloading."""
        for number in range(count):
            assert container.load(f"large-{number}", large)[0] == 200
            container.draw(f"large-{number}", steps=1)
        full = container.memory
        for number in range(count):
            assert container.unload(f"large-{number}") == 200
        return full, container.memory

    round_()  # the first rounds allocate memory that the process keeps
    full, empty = round_()
    assert full - empty > 0.7 * count * size
    later = [round_()[1] for _ in range(4)]
    assert later[-1] < empty + 0.5 * size


def test_model_that_is_in_use_is_unloaded_afterwards(container: Container, made: Path):
    container.load("alice", made / "adapters" / "alice")
    with ThreadPoolExecutor(1) as pool:
        before = container.seconds
        drawing = pool.submit(container.draw, "alice", seed=7, steps=100)
        until(lambda: container.seconds > before + 0.1, "the start of drawing")
        assert not drawing.done()
        assert container.unload("alice") == 200
        assert drawing.result(PATIENCE)[0].shape == (64, 64, 3)
    assert container.invoke("alice")[0] == 404


def program(pid: int) -> str:
    """Return the name of the file that a process runs; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def server(container: Container) -> int | None:
    """Return the process id of Triton."""
    return next((pid for pid in container.children if "tritonserver" in program(pid)), None)


UNSEALED = """
import sys
from pathlib import Path
from personalization_serve import __main__, triton
seal, refused = triton._seal, Path.home() / "refused"
def sealed(pid):
    if refused.exists():
        refused.write_text(str(pid))
        raise PermissionError("its shared memory is another's")
    seal(pid)
triton._seal = sealed
sys.exit(__main__.main())
"""
"""The container's program, changed so that shared memory cannot be made private while a file `refused`
exists."""


@pytest.fixture(scope="module")
def restarted(
    built: BuiltImage, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Container, int]]:
    """A container whose first Triton process got SIGABRT while it loaded the base, and that process's id.

    The names of the container's folders are not in ASCII, so that Triton's Python cannot encode them.
    """
    folder = tmp_path_factory.mktemp("restarted")
    home, base = (folder / f"{name} å" for name in ("home", "base"))
    base.symlink_to(made / "base")
    with Container(built, home, UNSEALED, GROUNDPLAN_BASE=str(base)) as container:
        until(lambda: server(container) is not None, "Triton's start")
        os.kill(aborted := server(container) or 0, signal.SIGABRT)
        yield container.ready(), aborted


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The archive of a model that is a full copy of the base, not a LoRA adapter."""
    archive = tmp_path / "archive å"
    shutil.copytree(made / "full", archive / "pipeline")
    write_manifest(archive, full=True)
    return archive


def test_triton_is_restarted_when_it_aborts(restarted: tuple[Container, int], made: Path):
    # given a container whose Triton aborts while it loads the base
    # then another Triton serves, and no process of the first one is left
    container, aborted = restarted
    assert server(container) not in (None, aborted)
    assert [program(pid) for pid in container.children].count("triton_python_backend_stub") == 1
    assert "Triton aborted while it loaded the base" in container.log.read_text()
    assert container.load("alice", made / "adapters" / "alice")[0] == 200
    assert container.unload("alice") == 200


def test_pipeline_whose_shared_memory_stays_public_is_unloaded(
    restarted: tuple[Container, int], copied: Path
):
    container, _ = restarted
    before = len(container.children)
    # when a model that is a full copy of the base is loaded, and its shared memory cannot be made private
    refused = container.folder / "refused"
    refused.touch()
    assert container.load("full", copied)[0] == 400
    # then the processes and files of this model are removed
    assert not Path(f"/proc/{int(refused.read_text())}").exists()
    assert len(container.children) == before
    assert not list(container.folder.rglob("*full-*"))
    names = ["base", *(f"full-{number}" for number in range(9))]
    ready = [container.asked(f"/v2/models/{name}/ready")[0] for name in names]
    assert ready.count(200) == 1
    refused.unlink()
    # and the model's name can be used again
    assert container.call("GET", "/models/full")[0] == 404


def test_full_pipeline_is_served_and_sigterm_completes_its_requests(
    restarted: tuple[Container, int], made: Path, copied: Path
):
    container, _ = restarted
    assert container.load("alice", made / "adapters" / "alice")[0] == 200
    before = len(container.children)
    assert container.load("full", copied)[0] == 200
    assert len(container.children) > before
    assert apart(container.draw("full", seed=7)[0], expected(made, "full-7")) <= ROUNDING
    assert apart(container.draw("alice", seed=7)[0], expected(made, "alice-7")) <= ROUNDING
    assert container.unload("full") == 200
    assert len(container.children) == before

    # and on SIGTERM requests in progress are answered before the container exits
    with ThreadPoolExecutor(1) as pool:
        used = container.seconds
        drawing = pool.submit(container.draw, "alice", seed=7, steps=100)
        until(lambda: container.seconds > used + 0.1, "the start of drawing")
        assert not drawing.done()
        container.process.terminate()
        assert len(drawing.result()) == 1
    assert container.process.wait(60) == 0
    until(lambda: not container.children, "the end of Triton")
    assert not list(container.folder.glob("personalization-*"))


def test_triton_ends_when_its_parent_is_killed(built: BuiltImage, made: Path, tmp_path: Path):
    with Container(built, tmp_path / "home", GROUNDPLAN_BASE=str(made / "base")) as container:
        until(lambda: len(container.children) > 1, "the start of Triton")
        assert container.ping() in (0, 503)
        container.process.kill()
        until(lambda: not container.children, "the end of all processes")


def test_base_is_fetched_completely_from_s3_into_its_folder_only(
    built: BuiltImage, made: Path, aws: dict[str, str], tmp_path: Path
):
    s3: Any = boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name=aws["AWS_REGION"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    s3.create_bucket(Bucket="bases", CreateBucketConfiguration={"LocationConstraint": aws["AWS_REGION"]})
    for path in sorted((made / "base").rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), "bases", f"one/{path.relative_to(made / 'base')}")
    s3.put_object(Bucket="bases", Key="another/model_index.json", Body=b"{}")
    s3.put_object(Bucket="bases", Key="bad/../../stray", Body=b"")
    (python, *_), own, directory = built.launch([])
    program = (
        "import sys; from pathlib import Path; from personalization_serve.base import fetch; "
        "print(fetch(sys.argv[1], Path(sys.argv[2])).id)"
    )

    def fetch(address: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-c", program, address, str(tmp_path / "scratch")]
        return subprocess.run(command, env=own | aws, cwd=directory, capture_output=True, text=True)

    assert fetch("s3://bases/one/").stdout.strip() == identity(made / "base")
    assert "leads out of the folder" in fetch("s3://bases/bad/").stderr
    assert "could not download the base from s3://nowhere/one/" in fetch("s3://nowhere/one/").stderr
    assert not (tmp_path / "stray").exists()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "GROUNDPLAN_BASE is missing"),
        ({"GROUNDPLAN_BASE": "/nowhere"}, "GROUNDPLAN_BASE must be a folder"),
        ({"GROUNDPLAN_BASE": "/etc"}, "model_index.json is missing"),
        ({"GROUNDPLAN_BASE": "/etc", "GROUNDPLAN_BATCH": "many"}, "GROUNDPLAN_BATCH"),
    ],
)
def test_container_without_a_base_exits_with_the_reason(
    built: BuiltImage, tmp_path: Path, environment, reason
):
    with Container(built, tmp_path, **environment) as container:
        assert container.process.wait(60) == 1
        assert reason in container.log.read_text().splitlines()[-1]


def test_container_exits_with_the_reason_when_the_device_differs(built: BuiltImage, tmp_path: Path):
    with Container(built, tmp_path, GROUNDPLAN_BASE="/nowhere", GROUNDPLAN_DEVICE="cuda") as container:
        assert container.process.wait(120) == 1
        last = container.log.read_text().splitlines()[-1]
    assert last.startswith("ERROR PyTorch must find the device of GROUNDPLAN_DEVICE, 'cuda', got 'cpu'")


def test_container_checks_the_base_after_the_device(built: BuiltImage, tmp_path: Path):
    with Container(built, tmp_path, GROUNDPLAN_BASE="/nowhere", GROUNDPLAN_DEVICE="cpu") as container:
        assert container.process.wait(120) == 1
        assert "GROUNDPLAN_BASE must be a folder" in container.log.read_text().splitlines()[-1]


def test_container_exits_when_the_process_of_the_base_is_killed(serving: Container):
    os.kill(serving.base_process, signal.SIGKILL)
    assert serving.process.wait(60) == 1
    assert "the base's process exited unexpectedly" in serving.log.read_text()
    until(lambda: not serving.children, "the end of Triton")


def test_full_copy_is_measured_in_tritons_own_sagemaker_mode(built: BuiltImage, made: Path):
    with (
        # given the archive of a user's model that is a full copy of the base, not a LoRA adapter
        archived(built, 1, str(made / "base"), ["full"]) as (folder, source, _),
        # when Triton serves it without this project's program, as in the benchmark that compares full copies
        # with adapters
        endpoint("full", built, folder, folder / "full", source) as serving,
    ):
        seconds = serving.cold(0)
    # then the archive was fetched and loaded, and a picture was drawn
    assert min(seconds[part] for part in ("fetch", "load", "picture")) > 0
