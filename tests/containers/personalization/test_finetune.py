"""The fine-tuning container: the results and files of its jobs, and its errors."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.images import build
from stacks.personalization.variables import METRICS
from tooling.containers import CONTAINERS, import_path

SOURCE = CONTAINERS / "personalization" / "finetune"
PATIENCE = 300
QUICK = {
    "steps": "6", "batch_size": "2", "variants": "2", "prior_images": "2", "previews": "2",
    "preview_steps": "2", "rank": "2", "alpha": "2", "threads": "1", "checkpoint_every": "2",
}  # fmt: skip

MICRO = """
import sys
from pathlib import Path
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel
from personalization_finetune.pretrain import tokenizer
torch.manual_seed(0)
folder = Path(sys.argv[1])
words = tokenizer(["a photo of a cat"], folder / "tokenizer")
StableDiffusionPipeline(
    vae=AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                      up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2),
    text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=len(words), hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=words.model_max_length)),
    tokenizer=words,
    unet=UNet2DConditionModel(sample_size=16, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")),
    scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
).save_pretrained(folder)
"""
"""Program that writes a base model with random weights in Stable Diffusion's format."""


@pytest.fixture(scope="session")
def python() -> Path:
    """Path of the image's Python interpreter. The image is built as by `cdk deploy`."""
    image = build.build(CONTAINERS, SOURCE / "Dockerfile")
    return image.folder / "env" / "bin" / "python"


@pytest.fixture(scope="session")
def micro(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("micro")
    subprocess.run([str(python), "-c", MICRO, str(folder)], check=True, env=environment())
    return folder


def environment(**more: str) -> dict[str, str]:
    known = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return (
        known
        | {
            "PYTHONPATH": import_path(SOURCE),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        | more
    )


def picture(red: int, kind: str = "PNG", side: int = 48) -> bytes:
    """Return a PNG of a pattern, encoded without an imaging library."""
    rows = b"".join(
        b"\0" + b"".join(bytes((red, x * 5 % 256, y * 5 % 256)) for x in range(side)) for y in range(side)
    )
    return png(side, side, rows)


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


BOMB = png(30_000, 30_000, b"\0" * 1000)
"""A picture of a few hundred bytes whose header claims 900 million pixels."""


def task(request: str, *images: str, **more: Any) -> dict[str, Any]:
    made = {"request": request, "images": list(images), "subject": "cat", "seed": 7, "host": 0}
    return made | {"prompts": ["a photo of sks cat"]} | more


@dataclass
class Job:
    """A training job with a folder for the `/opt/ml` of each host, as SageMaker creates it."""

    python: Path
    folder: Path
    base: Path
    hosts: int = 1
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of the job"""

    def ml(self, rank: int = 0) -> Path:
        return self.folder / f"host-{rank}"

    def prepare(self, tasks: list[dict[str, Any]], pictures: dict[str, bytes], **hyperparameters: str) -> Job:
        for rank in range(self.hosts):
            config, data = self.ml(rank) / "input/config", self.ml(rank) / "input/data"
            config.mkdir(parents=True, exist_ok=True)
            (data / "tasks").mkdir(parents=True, exist_ok=True)
            (config / "hyperparameters.json").write_text(json.dumps(QUICK | hyperparameters))
            # reversed, because SageMaker does not guarantee the order of the hosts
            names = [f"algo-{number}" for number in range(self.hosts, 0, -1)]
            (config / "resourceconfig.json").write_text(
                json.dumps({"current_host": f"algo-{rank + 1}", "hosts": names})
            )
            (data / "tasks/tasks.json").write_text(json.dumps({"version": 1, "tasks": tasks}))
            if not (data / "base").exists():
                (data / "base").symlink_to(self.base)
            for name, content in pictures.items():
                path = data / "images" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return self

    def start(self, rank: int = 0) -> subprocess.Popen[bytes]:
        with (self.ml(rank) / "log").open("ab") as log:
            process = subprocess.Popen(
                [str(self.python), "-m", "personalization_finetune", "train"],
                env=environment(SAGEMAKER_BASE_DIR=str(self.ml(rank)), **self.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self) -> list[int]:
        started = [self.start(rank) for rank in range(self.hosts)]
        return [process.wait(PATIENCE) for process in started]

    def log(self, rank: int = 0) -> str:
        return (self.ml(rank) / "log").read_text()

    def failure(self, rank: int = 0) -> str:
        return (self.ml(rank) / "output/failure").read_text()

    def of(self, request: str, rank: int = 0) -> Path:
        return self.ml(rank) / "checkpoints" / request

    def result(self, request: str, rank: int = 0) -> dict[str, Any]:
        path = self.of(request, rank) / "result.json"
        assert path.exists(), self.log(rank)[-3000:]
        return json.loads(path.read_text())

    def await_(self, ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + PATIENCE
        while not ready():
            assert process.poll() is None, self.log()[-3000:]
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture
def job(python: Path, micro: Path, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    made: list[Job] = []

    def start(name: str = "job", hosts: int = 1) -> Job:
        made.append(Job(python, tmp_path / name, micro, hosts))
        return made[-1]

    yield start
    for each in made:
        for process in each.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


PICTURES = {f"ada/m1/{number:02}": picture(40 * number) for number in range(3)}
GOOD = tuple(PICTURES)


def verified(job: Job, request: str, rank: int = 0) -> dict[str, Any]:
    """Return the result of a request, after checking the size and digest of every file that it lists."""
    result = job.result(request, rank)
    assert result["status"] == "done", result
    for name, told in result["files"].items():
        content = (job.of(request, rank) / name).read_bytes()
        assert told == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return result


BAD = [*(f"bad{number}" for number in range(4)), "absent", "empty"]


@pytest.fixture(scope="module")
def mixed(python: Path, micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A completed job with valid and invalid tasks, and with `GROUNDPLAN_DEVICE` in its environment."""
    pictures = PICTURES | {
        "bob/m/00": b"this is no picture",
        "bob/m/01": picture(9)[:900],
        "bob/m/02": BOMB,
        "bob/m/03": picture(9, side=16),
    }
    tasks = [task(f"bad{number}", "ada/m1/00", f"bob/m/{number:02}") for number in range(4)]
    tasks += [task("absent", "ada/m1/00", "ada/m1/99"), task("empty"), task("first", *GOOD)]
    tasks += [task("second", *GOOD, seed=8)]
    made = Job(python, tmp_path_factory.mktemp("mixed"), micro).prepare(tasks, pictures)
    made.environment["GROUNDPLAN_DEVICE"] = "cpu"
    assert made.run() == [0], made.log()[-3000:]
    return made


def test_failed_task_reports_its_reason_and_others_succeed(mixed):
    """GIVEN a job with valid and invalid tasks, WHEN it has run, THEN the reason of each invalid task names
    the picture and the remedy, the valid tasks are done, and the job has succeeded."""
    made = mixed
    reasons = {request: made.result(request)["reason"] for request in BAD}
    assert reasons == {
        "bad0": "Picture 2 is not a JPEG, PNG or WebP picture: use another picture.",
        "bad1": "Picture 2 is damaged and cannot be read to its end: use another picture.",
        "bad2": "Picture 2 must have at most 150 million pixels: make it smaller.",
        "bad3": "Picture 2 must have at least 32 pixels on each side, got 16 x 16.",
        "absent": "Picture 2 was not uploaded: create a new model and upload all of its pictures.",
        "empty": "The request has no pictures: upload pictures of your subject.",
    }
    assert not (made.of("bad0") / "adapter").exists()
    for request in ("first", "second"):
        result = verified(made, request)
        assert set(result["files"]) == {
            "adapter/adapter.json",
            "adapter/adapter_model.safetensors",
            "previews/0.png",
            "previews/1.png",
        }
        first, second = ((made.of(request) / f"previews/{n}.png").read_bytes() for n in range(2))
        assert first != second  # two pictures of one prompt, from two seeds
        about = json.loads((made.of(request) / "adapter/adapter.json").read_text())
        assert (about["request"], about["trigger"], about["rank"]) == (request, "sks cat", 2)
        assert about["base"] == result["base"]
        progress = json.loads((made.of(request) / "progress.json").read_text())
        assert (progress["stage"], progress["step"], progress["steps"]) == ("done", 6, 6)
        assert not (made.of(request) / "state").exists()
    for name, expression in METRICS.items():
        assert re.search(expression, made.log()), f"SageMaker finds no {name} in the log"
    assert not (made.ml() / "output/failure").exists()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_job_resumes_from_its_checkpoints_after_an_interruption(job, optimizer):
    """GIVEN a job that SIGTERM ends during a task, and that is killed after a restart, WHEN it resumes from
    its checkpoints, THEN its weights are those of an uninterrupted job."""
    tasks = [task("one", *GOOD, steps=60), task("two", *GOOD, steps=4)]

    def weights(made: Job) -> list[tuple[dict, bytes]]:
        """Return names, shapes and values of the weights. The metadata is left out, because its order
        varies."""
        found = []
        for each in tasks:
            content = (made.of(each["request"]) / "adapter/adapter_model.safetensors").read_bytes()
            end = 8 + int.from_bytes(content[:8], "little")
            head = json.loads(content[8:end])
            head.pop("__metadata__")
            found.append((head, content[end:]))
        return found

    alone = job("alone").prepare(tasks, PICTURES, optimizer=optimizer)
    assert alone.run() == [0], alone.log()[-3000:]

    made = job("taken").prepare(tasks, PICTURES, optimizer=optimizer)
    state = made.of("one") / "state/state.pt"
    for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = made.start()
        made.await_(lambda before=before: state.exists() and state.stat().st_mtime_ns > before, process)
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)  # as when the instance is lost
        assert process.wait(PATIENCE) == code
        assert not (made.of("one") / "result.json").exists()
    assert made.run() == [0], made.log()[-3000:]
    first, second = map(int, re.findall(r"continuing from the checkpoint of step (\d+)", made.log()))
    assert 0 < first < second == made.result("one")["metrics"]["resumed_at"]
    assert weights(made) == weights(alone)


def test_task_whose_worker_is_killed_fails_and_the_next_succeeds(job):
    """GIVEN a worker that is killed, as when memory runs out, WHEN the job continues, THEN the worker's task
    has failed with a reason for its user, and the next task is done."""
    made = job().prepare([task("huge", *GOOD, steps=100_000), task("next", *GOOD)], PICTURES)
    process = made.start()
    made.await_((made.of("huge") / "state/state.pt").exists, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert process.wait(PATIENCE) == 0
    assert "ran out of memory" in made.result("huge")["reason"]
    verified(made, "next")


def spoil(path: Path, name: str) -> None:
    """Set the first value of a tensor in a safetensors file to infinity."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    about = json.loads(content[8:start])[name]
    assert about["dtype"] == "F32"
    first = start + about["data_offsets"][0]
    content[first : first + 4] = struct.pack("<f", float("inf"))
    path.write_bytes(content)


def test_task_fails_when_the_loss_is_not_finite(python, micro, tmp_path):
    """GIVEN an infinite weight in the base, WHEN a task trains, THEN the task fails at once."""
    base = tmp_path / "base"
    shutil.copytree(micro, base)
    spoil(base / "unet/diffusion_pytorch_model.safetensors", "conv_out.bias")
    made = Job(python, tmp_path / "job", base).prepare([task("one", *GOOD)], PICTURES, prior_weight="0")
    assert made.run() == [0], made.log()[-3000:]
    assert made.result("one")["reason"].startswith("Training failed because its numbers became too large")


def test_hosts_share_the_tasks(job):
    tasks = [task(f"t{number}", *GOOD, host=number % 2) for number in range(3)]
    made = job(hosts=2).prepare(tasks, PICTURES)
    assert made.run() == [0, 0], made.log()[-3000:]
    did = [sorted(path.name for path in (made.ml(rank) / "checkpoints").iterdir()) for rank in range(2)]
    assert did == [["t0", "t2"], ["t1"]]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_full_method_writes_a_complete_pipeline(job, python, optimizer):
    made = job().prepare([task("one", *GOOD)], PICTURES, method="full", prior_weight="0", optimizer=optimizer)
    assert made.run() == [0], made.log()[-3000:]
    assert "adapter/pipeline/model_index.json" in verified(made, "one")["files"]
    assert json.loads((made.of("one") / "adapter/adapter.json").read_text())["full"] is True


LOADED = """
import json, sys
import numpy, torch
from diffusers import StableDiffusionPipeline
pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1], safety_checker=None)
def shown():
    random = torch.Generator().manual_seed(7)
    return pipeline("a photo of sks cat", height=32, width=32, num_inference_steps=2, guidance_scale=5.0,
                    generator=random, output_type="np").images[0]
before = shown()
from PIL import Image
found = []
for folder in sys.argv[2:]:
    pipeline.load_lora_weights(f"{folder}/adapter", weight_name="adapter_model.safetensors")
    preview = numpy.asarray(Image.open(f"{folder}/previews/0.png"), dtype=float) / 255
    after = shown()
    pipeline.unload_lora_weights()
    found.append([float(abs(after - preview).max()), float(abs(after - before).max())])
assert float(abs(shown() - before).max()) == 0
print(json.dumps(found))
"""


WAYS = {
    "usual": {"train_text_encoder": "true"},
    "muon, ranks by width": {"optimizer": "muon", "rank": "8", "alpha": "4", "rank_falloff": "2"},
}


@pytest.fixture(scope="module")
def elsewhere(
    python: Path, micro: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[float, float]]:
    """Return two differences for each way to train: between diffusers' picture with the adapter and the
    preview, and between diffusers' pictures with and without the adapter."""
    made = {way: Job(python, tmp_path_factory.mktemp("way"), micro) for way in WAYS}
    for way, job in made.items():
        job.prepare([task("one", *GOOD, steps=20)], PICTURES, learning_rate="0.01", **WAYS[way])
        assert job.run() == [0], job.log()[-3000:]
    shown = subprocess.run(
        [str(python), "-c", LOADED, str(micro), *(str(job.of("one")) for job in made.values())],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    return dict(zip(made, json.loads(shown.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_adapter_loaded_by_diffusers_reproduces_its_preview(elsewhere, way):
    """GIVEN a task's adapter, WHEN diffusers' own loader adds it to the base, THEN the same prompt and seed
    give the preview, and a different picture without the adapter."""
    off, moved = elsewhere[way]
    assert off < 0.01
    assert moved > 0.02


@pytest.mark.parametrize(
    ("tasks", "hyperparameters", "reason"),
    [
        ([], {"rnak": "8"}, "hyperparameter rnak is unknown, must be one of alpha, base,"),
        ([], {"rank": "many"}, "hyperparameter rank must be a whole number from 1 to 256"),
        ([], {"method": "magic"}, "hyperparameter method must be lora or full"),
        ([], {"base": "../../etc"}, "hyperparameter base must be a Hugging Face id as"),
        ([task("../x")], {}, "tasks.json, task 0: request must be text that matches"),
        ([task("x", "../../../etc/passwd")], {}, "tasks.json, task 0: images must be a list of paths below"),
        ([task("x", host=3)], {}, "tasks.json, task 0: host must be a whole number from 0 to 0"),
        (
            [task("x"), task("x")],
            {},
            "the tasks of tasks.json must have different values of request, got one twice",
        ),
        ([task("x") | {"color": 1}], {}, "tasks.json, task 0: field color is unknown"),
        (
            [task("x", *GOOD)],
            {"precision": "fp16"},
            "hyperparameter precision must be auto or fp32 without a GPU, got 'fp16'",
        ),
    ],
    ids=str,
)
def test_invalid_job_fails_with_the_reason(job, tasks, hyperparameters, reason):
    made = job().prepare(tasks, PICTURES, **hyperparameters)
    assert made.run() == [1]
    assert made.failure().startswith(reason)


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_job_fails_with_the_reason_when_the_device_differs(job, device):
    made = job().prepare([task("x", *GOOD)], PICTURES)
    made.environment["GROUNDPLAN_DEVICE"] = device
    assert made.run() == [1]
    reason = f"PyTorch must find the device of GROUNDPLAN_DEVICE, '{device}', got 'cpu'"
    assert made.failure().startswith(reason)
    assert not made.of("x").exists()


def test_job_trains_on_the_configured_device(mixed):
    assert mixed.environment["GROUNDPLAN_DEVICE"] == "cpu"
    assert re.search(r"base \S+ on cpu as torch\.float32", mixed.log())
    assert mixed.result("first")["status"] == "done"


def test_job_without_a_base_fails_with_the_reason(python, tmp_path):
    made = Job(python, tmp_path / "job", tmp_path).prepare([task("x", *GOOD)], PICTURES)
    assert made.run() == [1]
    assert made.failure().startswith("hyperparameter base must name a base, or channel base must have")


LEARNS = """
import json, sys
import torch
from personalization_finetune.optimizing import optimizers
from personalization_finetune.pretrain import optimized
found = {}
for optimizer in sys.argv[1:]:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 3, 1))
    pictures = torch.randn(4, 3, 8, 8)
    begun = [parameter.detach().clone() for parameter in network.parameters()]
    losses = []
    for _ in optimized(optimizers([*network.parameters()], optimizer, 0.02), 100):
        loss = (network(pictures) - pictures).square().mean()
        loss.backward()
        losses.append(loss.item())
    still = [torch.equal(*pair) for pair in zip(begun, network.parameters(), strict=True)]
    found[optimizer] = {"first": losses[0], "last": losses[-1], "still": sum(still)}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def learned(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Results of training a small network, by optimizer."""
    told = subprocess.run(
        [str(python), "-c", LEARNS, "adamw", "muon"],
        check=True,
        env=environment(),
        cwd=tmp_path_factory.mktemp("learned"),
        stdout=subprocess.PIPE,
    ).stdout
    return json.loads(told)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_convolutions_and_biases_learn_with_every_optimizer(learned, optimizer):
    found = learned[optimizer]
    assert found["still"] == 0
    assert found["last"] < found["first"] / 2


OWN = """
import sys
from pathlib import Path
import torch
from personalization_finetune import pretrain as program
from personalization_finetune.pretrain import Plan, pretrain
torch.set_num_threads(1)
crops = program.crops
program.crops = lambda pictures, count, chance: crops(pictures, 64, chance)  # of 3,072
plan = Plan(autoencoder_steps=21, steps=5, batch=2, autoencoder_batch=2, channels=(16, 32, 32))
for name in sys.argv[2:]:
    pretrain(Path(sys.argv[1]), Path(sys.argv[1], name), 0, plan)
"""


def test_own_base_trains_reproducibly_and_is_accepted_by_a_job(python, tmp_path):
    """GIVEN pictures with captions, WHEN a base is trained on them twice, THEN the weights are the same, and
    a job accepts the base."""
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(picture(100 * number, side=64))
    (tmp_path / "captions.json").write_text(json.dumps({"0.png": "a wall", "1.png": "the moon"}))
    subprocess.run(
        [str(python), "-c", OWN, str(tmp_path), "one", "two"], check=True, env=environment(), cwd=tmp_path
    )
    weights = [
        (tmp_path / name / part / "diffusion_pytorch_model.safetensors").read_bytes()
        for part in ("unet", "vae")
        for name in ("one", "two")
    ]
    assert weights[0] == weights[1]
    assert weights[2] == weights[3]
    made = Job(python, tmp_path / "job", tmp_path / "one").prepare([task("x", *GOOD)], PICTURES)
    assert made.run() == [0], made.log()[-3000:]
    verified(made, "x")
