"""Helpers that look for devices: a broken driver may crash one of them, and nothing else.

Each reads lines of JSON, ``{"id": 1, "probe": "devices"}`` or ``{"id": 2, "probe": "engine"}``,
and answers each with ``{"id": 1, "found": {...}}``. They run with the interpreter and the
environment of their kind's backend: Python 3.9 syntax, standard library and that backend's
packages only.
"""
