"""A double of ``cuda.bindings.runtime``: put this folder on PYTHONPATH and it is imported."""
