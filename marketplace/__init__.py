"""The shop and the contract: all that a plugin author imports.

A plugin is a module with a hook that returns its `Service` classes::

    from marketplace import Service, hookimpl

    @hookimpl
    def register_services():
        return [MyService]
"""

from marketplace.errors import (
    Busy,
    Conflict,
    InvalidArgument,
    NotFound,
    OutOfSpace,
    OversizedArgument,
    RateLimited,
    Refused,
    ServiceError,
    TimedOut,
    Unavailable,
)
from marketplace.hookspecs import hookimpl
from marketplace.interfaces import Cache, Database, Doubt, Event, EventStream, Host, Service

__all__ = [
    "Busy",
    "Cache",
    "Conflict",
    "Database",
    "Doubt",
    "Event",
    "EventStream",
    "Host",
    "InvalidArgument",
    "NotFound",
    "OutOfSpace",
    "OversizedArgument",
    "RateLimited",
    "Refused",
    "Service",
    "ServiceError",
    "TimedOut",
    "Unavailable",
    "hookimpl",
]
