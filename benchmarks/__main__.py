"""`python -m benchmarks`: every benchmark, one after the other."""

import sys

from benchmarks import personalization_scale, snowflake_training

if __name__ == "__main__":
    sys.exit(max([benchmark.main() for benchmark in (snowflake_training, personalization_scale)]))
