"""Conversations that are longer than the model's context: the oldest turns are not sent.

The upstream alone knows how many tokens a text has. What it says of one conversation tells, in bytes, how
much of the next one fits.
"""

from collections.abc import Callable, Sequence

from marketplace import OversizedArgument
from plugins.openai_chat.chat import Completion, Completions, Message

__all__ = ["FittingCompletions"]

ATTEMPTS = 3
"""How many calls may be made until a conversation fits."""

BYTES_PER_TOKEN = 3
"""How many bytes of text a token stands for, until the upstream has told; in English it is about four."""

MARGIN = 0.9
"""The part of what should fit that is used, as no two texts have quite as many tokens."""

MODELS = 100
"""Of how many models it is remembered, those that were learnt of last."""

PER_MESSAGE = 12
"""Bytes a message counts for beyond its text."""


class FittingCompletions:
    """Has ``completions`` reply to as much of a conversation as fits the model's context.

    ``max_tokens`` is how much may be sent at most, if that is known beforehand.
    """

    def __init__(self, completions: Completions, *, max_tokens: int | None = None) -> None:
        self._completions = completions
        self._most = None if max_tokens is None else max_tokens * BYTES_PER_TOKEN
        self._learnt: dict[str, float] = {}

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        deadline: float,
        listen: Callable[[str, int], None] | None = None,
    ) -> Completion:
        """Return the reply to the last of ``messages``; see `Completions.complete`.

        Raises:
            OversizedArgument: if the last message alone is too long.
        """
        sent = self._fitting(model, messages)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._completions.complete(model, sent, deadline=deadline, listen=listen)
            except OversizedArgument as error:
                if error.reason != "context_length_exceeded" or len(sent) == 1:
                    raise
                self._learn(model, sent, error)
            sent = self._fitting(model, sent) if attempt < ATTEMPTS - 1 else sent[-1:]
        raise AssertionError("a single message is the last attempt")

    def _fitting(self, model: str, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the latest turns that fit, and always the last message."""
        limits = [limit for limit in (self._most, self._learnt.get(model)) if limit is not None]
        if not limits:
            return messages
        sizes = [_size(message) for message in messages]
        size, start = sum(sizes), 0
        while size > min(limits) and start < len(messages) - 1:
            size -= sizes[start] + sizes[start + 1]
            start += 2
        return messages[start:]

    def _learn(self, model: str, sent: Sequence[Message], error: OversizedArgument) -> None:
        """Remember how much fits: as the upstream has told, or else half of what did not."""
        size = sum(map(_size, sent))
        limit, tokens = error.details.get("contextTokens"), error.details.get("tokens")
        share = MARGIN * limit / tokens if limit and tokens and limit < tokens else 0.5
        self._learnt.pop(model, None)
        self._learnt[model] = size * share
        if len(self._learnt) > MODELS:
            del self._learnt[next(iter(self._learnt))]


def _size(message: Message) -> int:
    return len(message.content.encode()) + PER_MESSAGE
