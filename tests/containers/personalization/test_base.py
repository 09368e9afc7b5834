"""A base model on the Hugging Face Hub: both images fetch the given commit, and compute the same identity
from its weights."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from local.images.build import build
from tests.support.personalization.hub import Hub, serving
from tooling.containers import CONTAINERS
from toolkit.identity import identity

OLD, NEW = "a" * 40, "b" * 40

NAMED_BY = {
    "serve": "from personalization_serve.base import fetch as f; named = lambda b: f(b, Path('.')).id",
    "finetune": "from personalization_finetune.base import _downloaded as f, identity;"
    " named = lambda b: identity(f(b))",
}
PROGRAM = """
import sys
from pathlib import Path
{}
for line in sys.stdin:
    try:
        told = named(line.strip())
    except Exception as error:
        told = str(error)
    print("told", *told.split(), flush=True)
"""
"""Program that prints the identity of each base in its input, or the reason why the base cannot be
fetched."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """A simulated Hugging Face Hub. Its repository has two commits with different weights, and other files of
    the kinds that such repositories have."""
    folders = {}
    for commit in (OLD, NEW):
        folder = folders[commit] = tmp_path_factory.mktemp("commit")
        index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1"}
        index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        for part in ("unet", "vae"):
            (folder / part).mkdir()
            (folder / part / "config.json").write_text("{}")
            for variant in ("", ".fp16", ".non_ema"):
                header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
                # every file differs between the two commits
                data = f"{part[0]}{commit[0]}{variant[-2:]:>2}".encode()
                content = struct.pack("<Q", len(header)) + header + data
                (folder / part / f"diffusion_pytorch_model{variant}.safetensors").write_bytes(content)
            (folder / part / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    return Hub(folders, {"main": NEW, "fp16": OLD})


@pytest.mark.parametrize("image", NAMED_BY)
def test_both_images_fetch_the_named_commit_of_a_base(hub: Hub, tmp_path: Path, image: str):
    (python, *_), own, directory = build(
        CONTAINERS, CONTAINERS / "personalization" / image / "Dockerfile"
    ).launch([])
    program = PROGRAM.format(NAMED_BY[image])

    with (
        serving(hub) as address,
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(
            [python, "-c", program],
            env=own | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HOME": str(tmp_path)},
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):

        def fetched(base: str) -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{base}\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith("told "):
                    return line.removeprefix("told ").strip()
            log.seek(0)
            pytest.fail(log.read()[-1000:])

        hub.fetched.clear()
        # given a commit, then that commit is fetched, although later commits exist
        old = fetched(f"owner/name@{OLD}")
        assert {commit for commit, _ in hub.fetched} == {OLD}
        assert {name for _, name in hub.fetched if not name.endswith(".json")} == {
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        }
        # and a branch name means the branch's last commit, and the error for a missing revision names the
        # revision
        branch, new, nowhere = map(fetched, ("owner/name@fp16", "owner/name", "owner/name@nowhere"))
    assert "could not download the base owner/name@nowhere" in nowhere
    # and both images compute the same identity from the weights
    weights = [identity(hub.commits[commit]) for commit in (OLD, OLD, NEW)]
    assert [old, branch, new] == weights
    assert old != new
