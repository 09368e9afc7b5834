"""Triton in its own SageMaker mode, for `benchmarks.personalization.serving`, in the serving image's
environment.

    python triton_alone.py FOLDER PORT BASE|-

In the published solution, every user's model is a Triton model. With BASE, a resident pipeline is the
additional model `base`, which the users' models call. Runs until its standard input is closed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from personalization_serve.settings import Settings
from personalization_serve.triton import Triton, _installed


def main(folder: Path, port: str, base: str) -> None:
    settings = Settings.read({"GROUNDPLAN_BASE": base})
    triton = Triton(settings, folder)
    command, environment = _installed(folder)
    command += ["--allow-http=false", "--allow-grpc=false", "--allow-metrics=false", "--exit-timeout-secs=5"]
    command += ["--allow-sagemaker=true", f"--sagemaker-port={port}", "--model-control-mode=explicit"]
    triton.repository.mkdir()
    command += [f"--model-repository={triton.repository}"]
    if base != "-":
        triton._write("base", "ResidentPipeline", Path(base))
        command += ["--load-model=base"]
    # the path of the backends in `command` may be relative to `folder`, so Triton must run in `folder`
    process = subprocess.Popen(command, env=environment, cwd=folder, stdin=subprocess.DEVNULL)
    sys.stdin.read()
    process.terminate()
    process.wait(30)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
