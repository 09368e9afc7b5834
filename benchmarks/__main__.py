"""`python -m benchmarks`: every benchmark, one after the other."""

import sys

from benchmarks import personalization_scale, personalization_serving, snowflake_training

if __name__ == "__main__":
    benchmarks = (snowflake_training, personalization_scale, personalization_serving)
    sys.exit(max([benchmark.main() for benchmark in benchmarks]))
