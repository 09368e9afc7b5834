"""The project's app with a container that only simulates training."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

import app
import stacks.snowflake_training.stack

stacks.snowflake_training.stack.CONTAINER = Path(__file__).parent
app.main()
