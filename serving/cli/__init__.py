"""The ``serving`` command: ``start``, ``list``, ``predict``, ``inspect``, ``convert``."""

from serving.cli.command import main

__all__ = ["main"]
