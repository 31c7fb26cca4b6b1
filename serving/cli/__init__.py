"""The ``serving`` command: ``start`` and ``list``."""

from serving.cli.command import main

__all__ = ["main"]
