"""The project's CDK app with stubs of the containers: one trains nothing and writes the same files as the
fine-tuning container, the other only answers /ping."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

import app  # noqa: E402
import stacks.personalization.stack  # noqa: E402

stacks.personalization.stack.FINETUNE = Path(__file__).parent / "finetune"
stacks.personalization.stack.SERVE = Path(__file__).parent / "serve"
app.main()
