"""Compare three ways to serve all users' models from one endpoint: cold loads, switches of model, memory.

    python -m benchmarks.personalization.serving [--users 4] [--rounds 3] [--ways full adapter]
                                                 [--base FOLDER] [--json FILE]

All ways use Triton and SageMaker's multi-model API. `full` is the way of the published solution:

    full       every user's archive is a whole pipeline, a separate Triton model
    calling    every user's archive is a small Triton model that calls one resident pipeline
    adapter    every user's archive is an adapter, and one resident pipeline serves all (ours)

A cold load is the time to download the archive over HTTP from this machine, unpack it, load the model with
`POST /models`, and make the first picture. Times are printed as progress; the results are ratios of times.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.images.build import build
from local.images.store import Image
from local.ports import free_port
from scenarios import archives
from tooling import envs
from tooling.containers import CONTAINERS, import_path

CONTAINER = CONTAINERS / "personalization" / "serve"
ASKED = {"prompt": "a photo of sks cat", "steps": 10, "guidance": 5.0, "seed": 7, "count": 1}
PATIENCE = 300
STARVED = "is not healthy"
"""Part of Triton's error when a Python backend misses its one-second health check on a busy CPU."""
WAYS = ("full", "calling", "adapter")
CALLING = """
import json
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        self.adapter = str(Path(__file__).with_name("adapter_model.safetensors"))

    def execute(self, requests):
        answers = []
        for request in requests:
            asked = json.loads(pb.get_input_tensor_by_name(request, "request").as_numpy().flat[0])
            text = json.dumps(asked | {"adapter": self.adapter}).encode()
            tensor = pb.Tensor("request", np.array([[text]], dtype=np.object_))
            call = pb.InferenceRequest(model_name="base", requested_output_names=["answer"], inputs=[tensor])
            answer = call.exec()
            answers.append(pb.InferenceResponse(answer.output_tensors(), error=answer.error()))
        return answers
"""
FULL = """
import json, sys
from pathlib import Path
sys.path.append({program!r})
from personalization_serve.backend import Full


class TritonPythonModel(Full):
    def initialize(self, args):
        config = json.loads(args["model_config"])
        config["parameters"]["pipeline"] = {{"string_value": str(Path(__file__).with_name("pipeline"))}}
        super().initialize(args | {{"model_config": json.dumps(config)}})
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input [{{ name: "request" data_type: TYPE_STRING dims: [1] }}]
output [{{ name: "answer" data_type: TYPE_STRING dims: [1] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
dynamic_batching {{ max_queue_delay_microseconds: 20000 }}
parameters {{ key: "batch" value: {{ string_value: "8" }} }}
parameters {{ key: "state" value: {{ string_value: "{state}" }} }}
"""


class Endpoint:
    """An endpoint with one way of serving: its process and the API's port."""

    def __init__(self, way: str, process: subprocess.Popen, port: int, folder: Path, source: str):
        self.way, self.process, self.port = way, process, port
        self.folder, self.source = folder, source

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            text = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content.strip() else None
        finally:
            connection.close()

    def cold(self, user: int) -> dict[str, float]:
        """Load a user's model; return the seconds of each part of the cold load, and `total`."""
        archive = f"{self.way}-{user}.tar.gz"
        place = self.folder / "models" / str(user) / "model"
        place.mkdir(parents=True)
        marks = [time.perf_counter()]
        with urllib.request.urlopen(f"{self.source}/{archive}") as stream:  # noqa: S310 - this machine's own
            content = stream.read()
        for name, file in archives.files(content, most_bytes=2**34).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(file)
        marks.append(time.perf_counter())
        status, answer = self.call("POST", "/models", {"model_name": f"user{user}", "url": str(place)})
        if status != 200:
            raise RuntimeError(f"{self.way}: the load of a model got status {status}: {answer}")
        marks.append(time.perf_counter())
        self.invoke(user)
        marks.append(time.perf_counter())
        names = ("fetch", "load", "picture")
        parts = {name: marks[number + 1] - marks[number] for number, name in enumerate(names)}
        return parts | {"total": marks[-1] - marks[0]}

    def invoke(self, user: int, steps: int = ASKED["steps"]) -> float:
        """Make one picture; return the seconds that it took."""
        asked = ASKED | {"steps": steps}
        if self.way != "adapter":  # the other two ways use Triton's own API, which expects tensors
            tensor = {"name": "request", "shape": [1, 1], "datatype": "BYTES", "data": [json.dumps(asked)]}
            asked = {"inputs": [tensor]}
        begun = time.perf_counter()
        status, answer = self.call("POST", f"/models/user{user}/invoke", asked)
        while status == 400 and STARVED in str(answer) and time.perf_counter() - begun < PATIENCE:
            time.sleep(0.5)
            status, answer = self.call("POST", f"/models/user{user}/invoke", asked)
        if status != 200:
            raise RuntimeError(f"{self.way}: an invocation got status {status}: {answer}")
        return time.perf_counter() - begun

    def unload(self, user: int) -> float:
        """Unload a user's model and delete its files; return the seconds until the answer to DELETE."""
        begun = time.perf_counter()
        self.call("DELETE", f"/models/user{user}")
        seconds = time.perf_counter() - begun
        shutil.rmtree(self.folder / "models" / str(user))
        return seconds

    @property
    def memory(self) -> float:
        """Memory of all processes in MiB. Shared pages count once."""
        mark = f"TMPDIR={self.folder}".encode()
        total = 0
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    lines = (entry / "smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration):
                continue
        return total / 1024


@contextmanager
def endpoint(way: str, image: Image, made: Path, folder: Path, source: str) -> Iterator[Endpoint]:
    folder.mkdir()
    port = free_port()
    command, own, directory = image.launch([])
    if way != "adapter":
        script = Path(__file__).with_name("triton_alone.py")
        scratch = folder / "triton"
        scratch.mkdir()
        base = str(made / "base") if way == "calling" else "-"
        command = [command[0], str(script), str(scratch), str(port), base]
    given = {
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "GROUNDPLAN_BASE": str(made / "base"),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder),
        "HOME": str(folder),
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env=own | given, cwd=directory, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    found = Endpoint(way, process, port, folder, source)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                if found.call("GET", "/ping")[0] == 200:
                    break
            except (OSError, ValueError):
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"the server of {way} did not start:\n{(folder / 'log').read_text()[-3000:]}"
                )
            time.sleep(0.2)
        yield found
    finally:
        if way == "adapter":
            process.terminate()
        process.communicate()


def pack(made: Path, program: str, users: int, ways: list[str]) -> dict[str, float]:
    """Write the archives of all users for each way; return the MiB of one archive of each way."""
    sys.path += import_path(CONTAINER).split(os.pathsep)
    from personalization_serve.base import identity

    store = made / "store"
    store.mkdir()
    belongs = identity(made / "base")
    for user in range(users):
        adapter = made / "adapters" / str(user)
        (adapter / "adapter.json").write_text(json.dumps({"version": 1, "base": belongs}))
        work = made / "work"
        for way in ways:
            shutil.rmtree(work, ignore_errors=True)
            if way == "adapter":
                shutil.copytree(adapter, work)
            else:
                version = work / f"user{user}" / "1"
                version.mkdir(parents=True)
                text = CONFIG.format(state=made / f"{way}-{user}.json")
                (version.parent / "config.pbtxt").write_text(text)
                (version / "model.py").write_text(FULL.format(program=program) if way == "full" else CALLING)
                if way == "full":
                    shutil.copytree(made / "base", version / "pipeline")
                else:
                    shutil.copy(adapter / "adapter_model.safetensors", version)
            with tarfile.open(store / f"{way}-{user}.tar.gz", "w:gz", compresslevel=6) as packed:
                for path in sorted(work.iterdir()):
                    packed.add(path, path.name)
    return {way: (store / f"{way}-0.tar.gz").stat().st_size / 2**20 for way in ways}


def median(values: Iterator[float] | list[float]) -> float:
    return statistics.median(values)


def switching(of: Endpoint, times: int = 30) -> float:
    """Return by how many milliseconds a request takes longer if the request before it was of another user."""
    for user in (0, 1):
        of.invoke(user, 1)
    same, other = [], []
    for _ in range(times):  # alternately, so that other load on the machine affects both kinds equally
        of.invoke(0, 1)
        same.append(of.invoke(0, 1))
        other.append(of.invoke(1, 1))
    return 1000 * (median(other) - median(same))


@contextmanager
def archived(
    image: Image, users: int, base: str, ways: list[str]
) -> Iterator[tuple[Path, str, dict[str, float]]]:
    """Pack every user's model for each way, and serve the archives by HTTP.

    Yields the folder, the server's URL, and the MiB of one archive of each way."""
    (python, *_), environment, _ = image.launch([])
    with tempfile.TemporaryDirectory(prefix="serving-") as temporary:
        made = Path(temporary)
        script = Path(__file__).with_name("models.py")
        quiet = os.environ | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        subprocess.run(
            [python, script, made, str(users), *([base] if base else [])],
            check=True,
            env=quiet,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        sizes = pack(made, environment["PYTHONPATH"], users, ways)
        handler = functools.partial(Quiet, directory=str(made / "store"))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made, f"http://127.0.0.1:{server.server_address[1]}", sizes
        server.shutdown()


def measure(
    users: int, rounds: int, base: str, ways: list[str], say: Callable[[str], None]
) -> dict[str, Any]:
    image = build(CONTAINERS, CONTAINER / "Dockerfile", say=lambda _: None)
    found: dict[str, Any] = {}
    with archived(image, users, base, ways) as (made, source, sizes):
        for way in ways:
            with endpoint(way, image, made, made / way, source) as serving:
                cold, one = [], 0.0
                for number in range(rounds):
                    for user in range(users):
                        cold.append(serving.cold(user))
                        if number < rounds - 1:
                            serving.unload(user)
                        elif user == 0:
                            one = serving.memory
                grown = (serving.memory - one) / (users - 1)
                parts = {part: median([each[part] for each in cold]) for part in cold[0]}
                found[way] = {
                    "cold_s": parts,
                    "warm_s": median([serving.invoke(0) for _ in range(5)]),
                    "switch_ms": switching(serving),
                    "memory_mib": grown,  # for each additional user's model
                    "archive_mib": sizes[way],
                    "unload_s": median([serving.unload(user) for user in range(users)]),
                }
                say(
                    f"{way}: {parts['total']:.2f} s from the download of the archive to the first picture,"
                    f" {sizes[way]:.2f} MiB an archive, {grown:.0f} MiB of memory for each further model"
                )
    full, adapter = found["full"], found["adapter"]
    found["cold_load_ratio"] = full["cold_s"]["total"] / adapter["cold_s"]["total"]
    found["warm_switch_ms"] = adapter["switch_ms"]
    found["adapter_size_ratio"] = full["archive_mib"] / adapter["archive_mib"]
    # An adapter takes less memory than the measured memory of the processes varies. Its memory is therefore
    # counted as at least the size of its archive.
    found["memory_ratio"] = full["memory_mib"] / max(adapter["memory_mib"], adapter["archive_mib"])
    return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.personalization.serving", description=__doc__)
    parser.add_argument("--users", type=int, default=4, help="number of models to load (4)")
    parser.add_argument("--rounds", type=int, default=3, help="number of loads of each model (3)")
    parser.add_argument(
        "--base", default="", help="folder of a pipeline (default: a pipeline with random weights)"
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=WAYS,
        help="ways to measure, at least full and adapter (all)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures to this file, not to stdout"
    )
    options = parser.parse_args()
    ways = [way for way in WAYS if way in options.ways]
    if not {"full", "adapter"} <= set(ways):
        parser.error("--ways must include full and adapter: the ratios compare these two")
    found = measure(max(2, options.users), max(1, options.rounds), options.base, ways, envs.say)
    found["metrics"] = {name: found[name] for name in ("cold_load_ratio", "warm_switch_ms")}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    else:
        print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
