"""Logs as lines of JSON: what was asked of the service and how it went, never what was in it."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

LOGGER = logging.getLogger("serein.service")
LOGGER_NAMES = (LOGGER.name, "uvicorn.error")


class JsonLines(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level and event; the fields of a request; how it failed, if it did."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _is_logged(record: logging.LogRecord) -> bool:
    """Uvicorn tells of each WebSocket its client's address and all of its query."""
    return not str(record.msg).startswith('%s - "WebSocket')


@contextmanager
def log_to(stream: TextIO) -> Iterator[None]:
    """Write the service's log to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    handler.addFilter(_is_logged)
    loggers = [logging.getLogger(name) for name in LOGGER_NAMES]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
