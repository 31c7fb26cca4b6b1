"""A double of NVIDIA's ``cuda`` package; see ``cuda.simulated`` for what it checks."""
