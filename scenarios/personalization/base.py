"""The demonstration's base model, trained once on this machine and cached by a hash of its sources.

python3.11 -m scenarios.personalization.base     # make it, print its folder
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tooling import envs
from tooling.containers import CONTAINERS, import_path

IMAGE = CONTAINERS / "personalization" / "finetune"
PICTURES = Path(__file__).parent
MADE_OF = (
    IMAGE / "personalization_finetune" / "pretrain.py",
    IMAGE / "personalization_finetune" / "optimizing.py",
    PICTURES / "corpus.py",
    PICTURES / "requirements.txt",
)


def small_base() -> Path:
    """Return the folder of a small text-to-image pipeline in diffusers' format. Trains it first if needed.

    Raises `subprocess.CalledProcessError` if the training fails; it then leaves no files.
    """
    key = hashlib.sha256(b"".join(path.read_bytes() for path in MADE_OF)).hexdigest()[:16]
    folder = envs.home() / "models" / key
    with envs.locked(envs.home() / "locks" / f"model-{key}"):
        if folder.exists():
            return folder
        python = str(envs.environment("scenarios-personalization"))
        envs.say("  training the base model of personalization, once: this takes some minutes on two cores")
        folder.parent.mkdir(parents=True, exist_ok=True)
        code = os.pathsep.join((str(envs.ROOT), import_path(IMAGE)))
        # the training has many small steps, so threads that wait actively between them halve its time
        settings = os.environ | {"PYTHONPATH": code, "OMP_WAIT_POLICY": "active", "HF_HUB_OFFLINE": "1"}
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as draft:
            corpus, made = Path(draft, "corpus"), Path(draft, "base")
            for arguments in (
                ["scenarios.personalization.corpus", str(corpus)],
                ["personalization_finetune.pretrain", "--pictures", str(corpus), "--output", str(made)],
            ):
                subprocess.run(
                    [python, "-m", *arguments], cwd=envs.ROOT, env=settings, stdout=sys.stderr, check=True
                )
            made.rename(folder)
    return folder


if __name__ == "__main__":
    print(small_base())
