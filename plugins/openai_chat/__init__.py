"""The OpenAI product: ChatGPT conversations behind three REST calls."""

from marketplace import Service, hookimpl
from plugins.openai_chat.service import OpenAI, OpenAIConfiguration

__all__ = ["register_services"]


@hookimpl
def register_services() -> list[type[Service[OpenAIConfiguration]]]:
    """Offer the OpenAI service."""
    return [OpenAI]
