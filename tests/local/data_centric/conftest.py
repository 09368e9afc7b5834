"""`inside/` has tests of benchmarks."""

collect_ignore = ["inside"]  # run by test_bench_inside.py, with the packages of the benchmarks
