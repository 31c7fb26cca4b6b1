"""Log lines: one readable line of text, or one JSON object, for every record of every process.

Workers write JSON to their standard error; the master reads it line by line and hands each to
``relay``, which re-emits it in the master's own format. Standard library only, Python 3.9.
"""

from __future__ import annotations

import calendar
import json
import logging
import sys
import time
from typing import Any, Callable, Dict, Mapping, Optional, TextIO

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

_PACKAGE = __name__.partition(".")[0]
_MAX_RELAYED = 16384
_OWN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_JSON_FIELDS = ("time", "level", "logger", "process", "message", "exception")
_SHORT = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_ORIGIN = "origin_process"


def configure(
    format: str, level: str, process: str, stream: Optional[TextIO] = None
) -> logging.Handler:
    """Send all records of this process to ``stream`` (standard error), replacing earlier set-up.

    ``format`` is one of ``FORMATS``, ``level`` one of ``LEVELS``; ``process`` names this process
    in each line (``master``, ``worker-0``). Raises ValueError. Returns the handler it installed.
    """
    if format not in FORMATS:
        raise ValueError(f"log format {format!r} is not one of {', '.join(FORMATS)}")
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    formatter = TextFormatter(process) if format == "text" else JsonFormatter(process)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    return handler


def attach(format: str, level: str, process: str) -> Callable[[], None]:
    """Show this package's records on standard error where nobody has set up logging.

    For a process of somebody else's: what they have set up is left as it is, and gets the records.
    Takes what ``configure`` takes. Returns what undoes it.
    """
    logger = logging.getLogger(_PACKAGE)
    if logging.getLogger().handlers:
        return lambda: None
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter(process) if format == "text" else JsonFormatter(process))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False

    def detach() -> None:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]

    return detach


class TextFormatter(logging.Formatter):
    """``12:34:56.789 INFO  master    message key=value``, local time; more lines are indented."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without a final line break."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = _SHORT.get(record.levelname, record.levelname)
        origin = getattr(record, _ORIGIN, self._process)
        head = f"{clock}.{int(record.msecs):03d} {level:<5} {origin:<9} "
        pairs = "".join(f" {key}={_plain(value)}" for key, value in extras(record).items())
        first, *more = _escaped(record.getMessage()).split("\n")
        lines = [head + first + pairs, *more]
        trace = _trace(self, record)
        if trace:
            lines += _escaped(trace).split("\n")
        return "\n    ".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, process, message, extras."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of ASCII JSON."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: Dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": getattr(record, _ORIGIN, self._process),
            "message": record.getMessage(),
        }
        for key, value in extras(record).items():
            fields[key + "_" if key in _JSON_FIELDS else key] = _jsonable(value)
        trace = _trace(self, record)
        if trace:
            fields["exception"] = trace
        return json.dumps(fields, default=str, allow_nan=False)


def extras(record: logging.LogRecord) -> Dict[str, Any]:
    """Return the fields that the caller added with ``extra={...}``, in their order."""
    return {
        key: value
        for key, value in record.__dict__.items()
        if key not in _OWN_FIELDS and key != _ORIGIN and value is not None
    }


def relay(line: bytes, process: str) -> None:
    """Re-emit one line that ``process`` (a worker) wrote to its standard error.

    A line of ``JsonFormatter`` keeps its time, level, logger and extra fields. Any other line
    (an engine's own print, a traceback of a dying interpreter) becomes a warning as it is.
    """
    cut = len(line) - _MAX_RELAYED
    text = line.decode("utf-8", "replace").rstrip()
    if not text:
        return
    record = _parsed(text, process)
    if record is None:
        if cut > 0:
            text = text[:_MAX_RELAYED] + f"... ({cut} bytes more)"
        record = logging.makeLogRecord(
            {
                "name": f"{_PACKAGE}.{process}",
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "msg": text,
            }
        )
        setattr(record, _ORIGIN, process)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _parsed(text: str, process: str) -> Optional[logging.LogRecord]:
    """Rebuild the record that ``JsonFormatter`` wrote, or ``None`` if it is no such line."""
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    number = logging.getLevelName(str(fields.get("level", "")).upper())
    if not isinstance(number, int) or not isinstance(fields.get("message"), str):
        return None
    record = logging.makeLogRecord(
        {
            "name": str(fields.get("logger", process)),
            "levelno": number,
            "levelname": logging.getLevelName(number),
            "msg": fields["message"],
        }
    )
    _set_time(record, fields.get("time"))
    record.exc_text = str(fields["exception"]) if fields.get("exception") else None
    for key, value in fields.items():
        if key not in _JSON_FIELDS and key not in _OWN_FIELDS:
            setattr(record, key, value)
    setattr(record, _ORIGIN, process)
    return record


def _set_time(record: logging.LogRecord, stamp: object) -> None:
    """Give the record the writer's time; a stamp of another form leaves the time of reading."""
    try:
        whole, _, rest = str(stamp).partition(".")
        parsed = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
        record.msecs = float(rest.rstrip("Z"))
    except ValueError:
        return
    record.created = calendar.timegm(parsed) + record.msecs / 1000


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    parts = [record.exc_text or ""]
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(part for part in parts if part)


def _plain(value: object) -> str:
    """Return a value for ``key=value``; quoted when a reader could not see where it ends."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _escaped(str(value))
    if text and not any(c in ' "=\n' for c in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    """Escape what could forge a line or move a terminal's cursor; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(char: str) -> str:
    return "    " if char == "\t" else char.encode("unicode_escape").decode("ascii")


def _jsonable(value: object) -> Any:
    """Return a value that JSON can hold: NaN and infinities become strings."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value
