"""When a failed call to the upstream is made again."""

import asyncio
import random
from email.utils import parsedate_to_datetime

from marketplace import ServiceError

__all__ = ["Retries"]

SHARE = 0.2
"""How many retries each call earns; one can be saved up."""

MOST = 2
"""How many retries a single call may have."""

FIRST_PAUSE = 0.5
"""Seconds before the first retry, where the upstream names no time, give or take a half; it doubles."""


class Retries:
    """Bounds the retries of all calls together: an upstream in trouble gets a fifth more calls, plus one."""

    def __init__(self) -> None:
        self._saved = 1.0

    def earn(self) -> None:
        """Note a call of somebody's."""
        self._saved = min(1.0, self._saved + SHARE)

    async def pause(self, error: ServiceError, attempts: int, deadline: float) -> None:
        """Wait before the next attempt after as many ``attempts``, if there is to be one.

        ``deadline`` is in the event loop's time.

        Raises:
            ServiceError: ``error``, if there is not.
        """
        pause = _asked_for(error.retry_after)
        if pause is None:
            pause = FIRST_PAUSE * 2 ** (attempts - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - only a pause
        is_in_time = asyncio.get_running_loop().time() + pause < deadline
        if attempts > MOST or self._saved < 1 or not is_in_time:
            raise error
        self._saved -= 1
        await asyncio.sleep(pause)


def _asked_for(retry_after: float | str | None) -> float | None:
    """Return how many seconds a ``Retry-After`` asks for; it is a number of seconds, or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(str(retry_after))
        return max(0.0, (at - type(at).now(at.tzinfo)).total_seconds())
    except (ValueError, OverflowError):
        return None
