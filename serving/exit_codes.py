"""The exit codes of the ``serving`` command; documented, so that scripts can rely on them."""

from __future__ import annotations

import enum

from serving.errors import ConfigError, ServingError, Status


class ExitCode(enum.IntEnum):
    """Why the command ended; ``meaning`` says it for people."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        """Make a member that is its number and knows its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "ended as asked"
    INTERNAL = 1, "a fault of the server itself"
    USAGE = 2, "a wrong flag, setting or configuration file"
    ADDRESS_IN_USE = 3, "an address or port is taken by another process"
    NO_MODEL_DIR = 4, "the model directory is missing or cannot be read"
    START_FAILED = 5, "a worker or front end could not be started"
    NO_SERVER = 6, "no server answers at the address"
    REFUSED = 7, "the server refused the request or could not answer it"
    BAD_MODEL = 8, "a model file cannot be converted or run here"
    DIFFERS = 9, "a converted model answers otherwise than it should"
    TARGET_MISSED = 10, "no setting that was tried keeps the latency target"


def exit_code_for(error: ServingError) -> ExitCode:
    """Return the exit code of an error that ends the command, by its stable code."""
    by_code = {
        "no_model_dir": ExitCode.NO_MODEL_DIR,
        "port_taken": ExitCode.ADDRESS_IN_USE,
        "start_failed": ExitCode.START_FAILED,
        "no_server": ExitCode.NO_SERVER,
        "other_server": ExitCode.NO_SERVER,
        "target_missed": ExitCode.TARGET_MISSED,
        "not_served": ExitCode.BAD_MODEL,
    }
    if error.code in by_code:
        return by_code[error.code]
    if isinstance(error, ConfigError):
        return ExitCode.USAGE
    ours = error.status in (Status.INTERNAL, Status.FAILED_PRECONDITION)
    return ExitCode.INTERNAL if ours else ExitCode.REFUSED
