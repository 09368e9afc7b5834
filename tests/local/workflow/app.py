"""The project's own app, with a container that does at once what it is told."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import app
import stacks.snowflake_training

stacks.snowflake_training.CONTAINER = Path(__file__).parent
app.main()
