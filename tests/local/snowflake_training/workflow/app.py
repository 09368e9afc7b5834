"""The project's app with a container that simulates training at once."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

import app
import stacks.snowflake_training.stack

stacks.snowflake_training.stack.CONTAINER = Path(__file__).parent
app.main()
