"""`python -m benchmarks`: every benchmark, one after the other."""

import sys

from benchmarks import snowflake_training

if __name__ == "__main__":
    sys.exit(snowflake_training.main())
