"""What experiments/benchmark.py measures: peers, timing, this machine."""
