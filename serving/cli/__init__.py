"""The ``serving`` command: ``start``, ``list`` and ``predict``."""

from serving.cli.command import main

__all__ = ["main"]
