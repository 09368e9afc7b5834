"""The project's own app, with containers that keep to the contracts and train nothing."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import app  # noqa: E402
import stacks.personalization  # noqa: E402

stacks.personalization.FINETUNE = Path(__file__).parent / "finetune"
stacks.personalization.SERVE = Path(__file__).parent / "serve"
app.main()
