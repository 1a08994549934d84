"""The hooks of a plugin, and the two markers that connect them."""

import pluggy

from marketplace.interfaces import Service

__all__ = ["hookimpl", "hookspec", "register_services"]

hookspec = pluggy.HookspecMarker("marketplace")
hookimpl = pluggy.HookimplMarker("marketplace")


@hookspec
def register_services() -> list[type[Service]]:  # type: ignore[type-arg, empty-body]
    """Return the service classes this plugin offers, usually one."""
