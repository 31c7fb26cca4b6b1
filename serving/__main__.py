"""Lets ``python -m serving`` stand for the ``serving`` command."""

from serving.cli import main

if __name__ == "__main__":
    main(prog_name="serving")
