"""One command that measures the server beside what it is built on: ``python -m benchmarks``."""
