"""A double of ``tensorrt``: put this folder and ``tests/doubles/cuda`` on PYTHONPATH."""
