"""What SageMaker and the users of a multi-model endpoint rely on, against the image and a real Triton."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import matplotlib.image
import numpy as np
import pytest

from local.images.build import build
from local.images.store import Image as BuiltImage
from tooling import envs

from .conftest import free_port, wait_until

CONTAINER = envs.ROOT / "containers" / "personalization_serve"
sys.path.insert(0, str(CONTAINER))
from personalization_serve.base import identity  # noqa: E402

PROMPT, STEPS, GUIDANCE = "a photo of sks cat", 3, 5.0
ASKED = {"prompt": PROMPT, "steps": STEPS, "guidance": GUIDANCE}
ROUNDING = 3
"""How far a colour (0 to 255) may be off where the same sums are added in another order."""
BUDGET = 24 * 2**20


@pytest.fixture(scope="module")
def built() -> BuiltImage:
    return build(CONTAINER)


@pytest.fixture(scope="module")
def made(built: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines, adapters and what diffusers itself draws with them."""
    lock = CONTAINER / "requirements.txt"
    steps = [["install", "-r", str(lock), "torch==2.13.0", "accelerate==1.15.0", "peft==0.21.2"]]
    key = hashlib.sha256(lock.read_bytes() + json.dumps(steps).encode()).hexdigest()
    python = envs.make(envs.home() / "envs" / "diffusers", key, "the image's packages and peft", steps)
    folder = tmp_path_factory.mktemp("pipelines")
    script = Path(__file__).with_name("personalization_pipelines.py")
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([python, script, folder], env=os.environ | quiet, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    belongs = identity(folder / "base")
    for path in (folder / "adapters").iterdir():
        write_manifest(path, base=belongs)
    return folder


def write_manifest(folder: Path, **fields: Any) -> None:
    (folder / "adapter.json").write_text(json.dumps({"version": 1, **fields}))


class Container:
    """The image, started as SageMaker starts it."""

    def __init__(self, built: BuiltImage, folder: Path, **environment: str):
        command, own, directory = built.launch([])
        self.port, self.folder = free_port(), folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        given = {
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "TMPDIR": str(folder),
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=own | given, cwd=directory, stdout=log, stderr=subprocess.STDOUT, text=True
            )

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        wait_for(lambda: not self.children, "the end of all processes")

    def ready(self) -> Container:
        try:
            wait_until(lambda: self.ping() == 200, self.process, f"serving ({self.log.read_text()[-1000:]})")
        except BaseException:
            self.__exit__()  # no `with` has begun that would end it
            raise
        return self

    @property
    def children(self) -> list[int]:
        """Every process that is this container's, by its own folder for temporary files."""
        mark = f"TMPDIR={self.folder}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if alive and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    @property
    def base_process(self) -> int:
        (state,) = self.folder.glob("personalization-*/base.json")
        return json.loads(state.read_text())["pid"]

    @property
    def memory(self) -> int:
        """Bytes that the base's process has to itself."""
        lines = Path(f"/proc/{self.base_process}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, raw, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def batches(self) -> tuple[int, int]:
        """Requests that the base was asked, and batches that Triton made of them."""
        (address,) = re.findall(r"Started HTTPService at ([\d.:]+)", self.log.read_text())
        with urllib.request.urlopen(f"http://{address}/v2/models/base/stats") as answer:
            (found,) = json.load(answer)["model_stats"]
        return found["inference_count"], found["execution_count"]

    def ping(self) -> int:
        try:
            return self.call("GET", "/ping")[0]
        except OSError:
            return 0

    def load(self, name: str, folder: Path) -> tuple[int, Any]:
        return self.call("POST", "/models", {"model_name": name, "url": str(folder)})

    def invoke(self, name: str, **request: Any) -> tuple[int, Any]:
        return self.call("POST", f"/models/{name}/invoke", ASKED | request)

    def draw(self, name: str, **request: Any) -> list[np.ndarray]:
        status, answer = self.invoke(name, **request)
        assert status == 200, answer
        return [pixels(base64.b64decode(image)) for image in answer["images"]]

    def unload(self, name: str) -> int:
        return self.call("DELETE", f"/models/{name}")[0]


def pixels(png: bytes) -> np.ndarray:
    """Height x width x 3, 0 to 255."""
    return np.round(matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3] * 255)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def wait_for(ready: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < until, f"in vain for {what}"
        time.sleep(0.05)


def expected(made: Path, name: str) -> np.ndarray:
    return pixels((made / "expected" / f"{name}.png").read_bytes())


@pytest.fixture(scope="module")
def serving(built: BuiltImage, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """With room for three of the large adapters."""
    folder = tmp_path_factory.mktemp("serving")
    settings = {"GROUNDPLAN_MEMORY": str(BUDGET), "GROUNDPLAN_ADAPTER_BYTES": str(BUDGET)}
    with Container(built, folder, GROUNDPLAN_BASE=str(made / "base"), **settings) as container:
        assert container.ping() in (0, 503)
        yield container.ready()


@pytest.fixture
def container(serving: Container) -> Iterator[Container]:
    """Without any model loaded."""
    yield serving
    for model in serving.call("GET", "/models")[1]["models"]:
        assert serving.unload(model["modelName"]) == 200


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of an adapter's archive, to spoil."""
    return shutil.copytree(made / "adapters" / "alice", tmp_path / "archive")


def test_the_image_says_that_it_serves_many_models(built: BuiltImage):
    labels = built.config["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"


# The multi-model API


def test_a_model_is_loaded_once_listed_and_unloaded(container: Container, made: Path):
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
def test_a_bad_request_is_told_which_field_and_what_is_allowed(container: Container, made: Path, body, field):
    container.load("alice", made / "adapters" / "alice")
    status, answer = container.call("POST", "/models/alice/invoke", body)
    assert status == 400
    assert answer["error"].startswith(f"{field}: ")


# Whose picture, and which


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_it_draws_what_diffusers_draws_with_the_adapter(container: Container, made: Path, name: str):
    container.load(name, made / "adapters" / name)
    first, second = container.draw(name, seed=7, count=2)
    assert apart(first, expected(made, f"{name}-7")) <= ROUNDING
    assert apart(second, expected(made, f"{name}-8")) <= ROUNDING


def test_a_picture_depends_on_its_own_request_alone(container: Container, made: Path):
    # given what each request draws by itself
    for name in ("alice", "bob"):
        container.load(name, made / "adapters" / name)
    requests = [
        (name, {"seed": seed, "prompt": prompt})
        for name in ("alice", "bob")
        for seed in (1, 2)
        for prompt in (PROMPT, "a drawing of sks dog by night")
    ]
    alone = [container.draw(name, **request)[0] for name, request in requests]
    # when all come at once, several times
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda each: container.draw(each[0], **each[1])[0], requests * 3))
    # then each gets its own picture
    for number, picture in enumerate(together):
        assert apart(picture, alone[number % len(alone)]) <= ROUNDING
    different = [apart(one, other) for one in alone for other in alone if one is not other]
    assert min(different) > 10 * ROUNDING


def test_switching_to_and_fro_changes_nothing(container: Container, made: Path):
    for name in ("alice", "bob"):
        container.load(name, made / "adapters" / name)
    first = container.draw("alice", seed=7)[0]
    for _ in range(10):
        container.draw("bob", seed=7, steps=1)
        container.draw("alice", seed=7, steps=1)
    assert apart(container.draw("alice", seed=7)[0], first) == 0


def test_requests_at_once_share_batches(container: Container, made: Path):
    container.load("alice", made / "adapters" / "alice")
    before = container.batches()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: container.draw("alice", seed=seed), range(24)))
    requests, batches = (after - then for after, then in zip(container.batches(), before, strict=True))
    assert requests == 24
    assert batches < 16


# Memory


def test_what_does_not_fit_is_answered_by_507_until_something_is_unloaded(container: Container, made: Path):
    large = made / "adapters" / "large"
    count = BUDGET // (large / "adapter_model.safetensors").stat().st_size
    names = [f"large-{number}" for number in range(count)]
    assert [container.load(name, large)[0] for name in names] == [200] * count
    status, answer = container.load("one-more", large)
    assert status == 507
    assert "do not fit" in answer["error"]
    assert container.load("one-more", large)[0] == 507
    assert container.unload(names[0]) == 200
    assert container.load("one-more", large)[0] == 200


def test_unloading_gives_the_memory_back(container: Container, made: Path):
    large = made / "adapters" / "large"
    size = (large / "adapter_model.safetensors").stat().st_size
    count = BUDGET // size

    def round_() -> tuple[int, int]:
        """Memory with all of them in use, and after they are unloaded."""
        for number in range(count):
            assert container.load(f"large-{number}", large)[0] == 200
            container.draw(f"large-{number}", steps=1)
        full = container.memory
        for number in range(count):
            assert container.unload(f"large-{number}") == 200
        return full, container.memory

    round_()  # what is taken once, and kept
    full, empty = round_()
    assert full - empty > 0.7 * count * size
    later = [round_()[1] for _ in range(4)]
    assert later[-1] < empty + 0.5 * size


def test_a_model_that_is_in_use_is_unloaded_afterwards(container: Container, made: Path):
    container.load("alice", made / "adapters" / "alice")
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(container.draw, "alice", seed=7, steps=100)
        time.sleep(0.3)
        assert not drawing.done()
        assert container.unload("alice") == 200
        assert drawing.result(5)[0].shape == (64, 64, 3)
    assert container.invoke("alice")[0] == 404


# What is not taken


def refusal(container: Container, folder: Path | str) -> str:
    status, answer = container.call("POST", "/models", {"model_name": "spoilt", "url": str(folder)})
    assert status == 400
    assert container.invoke("spoilt")[0] == 404
    assert container.ping() == 200
    return answer["error"]


def test_an_adapter_of_another_base_is_refused_by_name(container: Container, made: Path, archive: Path):
    write_manifest(archive, base="0123456789abcdef")
    error = refusal(container, archive)
    assert "0123456789abcdef" in error
    assert identity(made / "base") in error


def test_an_adapter_of_another_shape_is_refused(container: Container, made: Path):
    assert "in the base" in refusal(container, made / "adapters" / "wider")


def safetensors(shapes: dict[str, tuple[str, list[int]]], metadata: dict[str, str] | None = None) -> bytes:
    """A file of that format, all zeros."""
    sizes = {"F32": 4, "F16": 2, "I64": 8, "F64": 8}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (kind, shape) in shapes.items():
        size = int(np.prod(shape)) * sizes[kind]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_{}.weight"
A, B = QUERY.format("A"), QUERY.format("B")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not safetensors"),
        (b"\x80\x04\x95" + bytes(100), "not safetensors"),
        (struct.pack("<Q", 2**62), "not safetensors"),
        (safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 4])})[:-1], "not whole"),
        (safetensors({}), "empty"),
        (safetensors({"lm_head.weight": ("F32", [4, 4])}), "lm_head.weight"),
        (safetensors({A: ("F32", [4, 64])}), "one half"),
        (safetensors({A: ("F64", [4, 64]), B: ("F64", [64, 4])}), "F64"),
        (safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 8])}), "do not fit each other"),
        (safetensors({A: ("F32", [300, 64]), B: ("F32", [64, 300])}), "rank 300"),
        (safetensors({A: ("F32", [4, 32]), B: ("F32", [64, 4])}), "in the base"),
        (
            safetensors(
                {A.replace("mid_", "no_"): ("F32", [4, 64]), B.replace("mid_", "no_"): ("F32", [64, 4])}
            ),
            "no_",
        ),
        (
            safetensors(
                {A: ("F32", [4, 64]), B: ("F32", [64, 4])},
                {"lora_adapter_metadata": '{"unet.use_dora": true}'},
            ),
            "use_dora",
        ),
        (
            safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 4])}, {"lora_adapter_metadata": "[" * 99999}),
            "cannot be read",
        ),
        (safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 4])}) + bytes(BUDGET), "more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_corrupt_or_foreign_file_is_refused(
    container: Container, archive: Path, content: bytes, reason: str
):
    (archive / "adapter_model.safetensors").write_bytes(content)
    assert reason in refusal(container, archive)


def test_only_what_an_adapter_consists_of_is_taken(container: Container, archive: Path):
    for name in ("pytorch_model.bin", "model.py", "deep/adapter.json"):
        path = archive / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        assert path.name in refusal(container, archive)
        path.unlink()
    manifest = (archive / "adapter.json").read_text()
    for content in ("", "[]", "{}", "[" * 60_000, "{" + " " * 10**5 + "}"):
        (archive / "adapter.json").write_text(content)
        assert "adapter.json" in refusal(container, archive)
    (archive / "adapter.json").write_text(manifest)
    assert container.load("whole-again", archive)[0] == 200


def test_nothing_outside_the_archive_is_read(container: Container, made: Path, archive: Path):
    weights = archive / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to(made / "adapters" / "alice" / weights.name)
    assert "no plain file" in refusal(container, archive)
    assert "url" in refusal(container, archive / ".." / "archive")
    assert "url" in refusal(container, "relative")
    assert "url" in refusal(container, "/nowhere")


def test_a_full_pipeline_with_a_pickle_is_refused(container: Container, made: Path, tmp_path: Path):
    archive = tmp_path / "full"
    shutil.copytree(made / "full", archive / "pipeline")
    write_manifest(archive, full=True)
    (archive / "pipeline" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "safetensors alone" in refusal(container, archive)


# The source's way: a full copy for each user


def test_a_full_copy_is_served_too_until_sigterm(built: BuiltImage, made: Path, tmp_path: Path):
    archive = tmp_path / "archive"
    shutil.copytree(made / "full", archive / "pipeline")
    write_manifest(archive, full=True)
    with Container(built, tmp_path / "home", GROUNDPLAN_BASE=str(made / "base")).ready() as container:
        assert container.load("alice", made / "adapters" / "alice")[0] == 200
        before = len(container.children)
        assert container.load("full", archive)[0] == 200
        assert len(container.children) > before
        assert apart(container.draw("full", seed=7)[0], expected(made, "full-7")) <= ROUNDING
        assert apart(container.draw("alice", seed=7)[0], expected(made, "alice-7")) <= ROUNDING
        assert container.unload("full") == 200
        assert len(container.children) == before

        # and on SIGTERM requests under way are answered before all ends
        with ThreadPoolExecutor(1) as pool:
            drawing = pool.submit(container.draw, "alice", seed=7, steps=100)
            time.sleep(0.3)
            assert not drawing.done()
            container.process.terminate()
            assert len(drawing.result()) == 1
        assert container.process.wait(60) == 0
        wait_for(lambda: not container.children, "the end of Triton")
        assert not list(container.folder.glob("personalization-*"))


# The end


def test_triton_dies_with_its_parent(built: BuiltImage, made: Path, tmp_path: Path):
    with Container(built, tmp_path / "home", GROUNDPLAN_BASE=str(made / "base")) as container:
        wait_for(lambda: len(container.children) > 1, "Triton")
        assert container.ping() in (0, 503)
        container.process.kill()
        wait_for(lambda: not container.children, "the end of all processes")


def test_the_base_is_fetched_from_s3_whole_and_into_its_folder_alone(
    built: BuiltImage, made: Path, aws: dict[str, str], tmp_path: Path
):
    s3 = boto3.client(
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
        "print(fetch(sys.argv[1], Path(sys.argv[2]))[1])"
    )

    def fetch(address: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-c", program, address, str(tmp_path / "scratch")]
        return subprocess.run(command, env=own | aws, cwd=directory, capture_output=True, text=True)

    assert fetch("s3://bases/one/").stdout.strip() == identity(made / "base")
    assert "leads out of its folder" in fetch("s3://bases/bad/").stderr
    assert "cannot be fetched" in fetch("s3://nowhere/one/").stderr
    assert not (tmp_path / "stray").exists()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "GROUNDPLAN_BASE is missing"),
        ({"GROUNDPLAN_BASE": "/nowhere"}, "no folder"),
        ({"GROUNDPLAN_BASE": "/etc"}, "model_index.json is missing"),
        ({"GROUNDPLAN_BASE": "/etc", "GROUNDPLAN_BATCH": "many"}, "GROUNDPLAN_BATCH"),
    ],
)
def test_without_a_base_it_ends_and_says_why(built: BuiltImage, tmp_path: Path, environment, reason):
    with Container(built, tmp_path, **environment) as container:
        assert container.process.wait(60) == 1
        assert reason in container.log.read_text().splitlines()[-1]


def test_when_the_base_dies_the_container_ends_for_another_to_take_its_place(serving: Container):
    os.kill(serving.base_process, signal.SIGKILL)
    assert serving.process.wait(60) == 1
    assert "the base's process died" in serving.log.read_text()
    wait_for(lambda: not serving.children, "the end of Triton")
