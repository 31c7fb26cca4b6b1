"""See ``cuda.bindings.runtime``."""
