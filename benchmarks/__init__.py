"""One command that measures the server beside what it is built on: ``python -m benchmarks``."""

import os

# The server's processes have it so; what they are measured beside shall not do more than they.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
