"""The log: a line per event on standard error, under the id of the request it belongs to."""

import logging
import logging.config
import threading
from contextvars import ContextVar

__all__ = ["configure_logging", "hide", "request_id"]

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request that is being handled."""


_hidden: tuple[str, ...] = ()
_hiding = threading.Lock()


def hide(secret: str) -> None:
    """Never show ``secret`` in the log, whoever quotes it; what is too short to be one is not hidden.

    That holds until the process ends: a key that was replaced may still be one that opens something.
    """
    global _hidden
    with _hiding:
        if len(secret) >= 8 and secret not in _hidden:
            # The longest first: a shorter one may be a part of it.
            _hidden = tuple(sorted((*_hidden, secret), key=len, reverse=True))


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for secret in _hidden:
            line = line.replace(secret, "...")
        return line


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


def configure_logging() -> None:
    """Log what the host says, and warnings of libraries: at INFO they name every upstream URL."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request_id": {"()": _WithRequestId}},
            "formatters": {
                "line": {
                    "()": _Line,
                    "format": "%(asctime)s %(levelname)s %(message)s request_id=%(request_id)s",
                }
            },
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "formatter": "line",
                    "filters": ["request_id"],
                }
            },
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {"marketplace": {"level": "INFO"}},
        }
    )
