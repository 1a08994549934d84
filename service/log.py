"""The log: a line per event on standard error, under the id of the request it belongs to."""

import logging
import logging.config
from contextvars import ContextVar

__all__ = ["configure_logging", "request_id"]

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request that is being handled."""


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
                "line": {"format": "%(asctime)s %(levelname)s %(message)s request_id=%(request_id)s"}
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
