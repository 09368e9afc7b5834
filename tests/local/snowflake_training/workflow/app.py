"""The project's own app, with a container that does at once what it is told."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

import app
import stacks.snowflake_training.stack

stacks.snowflake_training.stack.CONTAINER = Path(__file__).parent
app.main()
