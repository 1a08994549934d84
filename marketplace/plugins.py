"""Load the plugins of given products, one at a time, so that a bad one harms nobody else."""

import importlib
import re
from typing import Any

import msgspec
import pluggy

from marketplace import hookspecs
from marketplace.arguments import plain
from marketplace.errors import InvalidArgument, PluginError
from marketplace.interfaces import Service
from marketplace.manifest import Product

__all__ = ["configure", "load_service"]


def load_service(product: Product) -> type[Service[Any]]:
    """Import the plugin of ``product`` and return the service class of that name.

    Raises:
        PluginError: if it cannot be imported, registers nothing, or offers no such service.
    """
    manager = pluggy.PluginManager("marketplace")
    manager.add_hookspecs(hookspecs)
    try:
        module = importlib.import_module(product.plugin)
        manager.register(module)
        manager.check_pending()
        offered = [service for services in manager.hook.register_services() for service in services]
        found = [service for service in offered if service.name == product.name]
    except Exception as error:
        raise PluginError(f"The plugin {product.plugin} cannot be loaded: {error!r}.") from error
    if not found:
        raise PluginError(f"The plugin {product.plugin} registers no service named {product.name!r}.")
    kind: type[Service[Any]] = found[0]
    return kind


def configure(service: type[Service[Any]], values: dict[str, Any]) -> Any:
    """Convert answers to the service's ``Configuration``.

    Raises:
        InvalidArgument: if one of them does not fit; ``parameter`` names its item.
    """
    try:
        return msgspec.convert(values, service.Configuration)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at ")
        name = re.search(r"(?<=\$\.)\w+", path) or re.search(r"(?<=field `)\w+", reason)
        raise InvalidArgument(plain(reason), parameter=name.group() if name else None) from None
