"""What can go wrong, as one tree. Nothing here knows HTTP: the host turns each kind into an answer.

::

    MarketplaceError
    ├── ServiceError              a method could not do what it was asked
    │   ├── InvalidArgument       an argument has the wrong type or value
    │   │   ├── MissingArgument   a required one is absent
    │   │   ├── NullArgument      a required one is null
    │   │   ├── EmptyArgument     a text is empty or blank
    │   │   ├── OversizedArgument a value is larger than can be handled
    │   │   ├── MalformedBody     the body is no JSON, or no Unicode
    │   │   ├── NotAnObject       the body is JSON, but not an object
    │   │   └── UnsupportedType   the body is announced as something else
    │   ├── NotFound              what the caller names does not exist
    │   ├── Conflict              it contradicts what was said before
    │   ├── Busy                  somebody else has it just now
    │   ├── RateLimited           asked too often
    │   ├── Refused               the upstream will not do this request
    │   ├── Unavailable           something that is needed does not work
    │   │   └── OutOfSpace        there is no room left
    │   └── TimedOut              it took too long
    └── SetupError                the operator has something to mend
        ├── ManifestError         the manifest cannot be used
        ├── ProductNotFound       no such product, or it is not installed
        ├── PluginError           a plugin cannot be loaded
        ├── InstallsError         the remembered installs cannot be used
        ├── MissingAnswer         a configuration item has no answer, or no allowed one
        ├── InstallRefused        the answers were refused, or could not be tried
        ├── DataNotDropped        what a service stored cannot be dropped
        ├── SettingsError         a setting of the host cannot be used
        ├── BadCall               a command was called in a way that has to be changed
        ├── NoHost                no host answers, or not as one
        └── CallFailed            the host answered a call with an error
"""

from typing import Any

__all__ = [
    "BadCall",
    "Busy",
    "CallFailed",
    "Conflict",
    "DataNotDropped",
    "EmptyArgument",
    "InstallRefused",
    "InstallsError",
    "InvalidArgument",
    "MalformedBody",
    "ManifestError",
    "MarketplaceError",
    "MissingAnswer",
    "MissingArgument",
    "NoHost",
    "NotAnObject",
    "NotFound",
    "NullArgument",
    "OutOfSpace",
    "OversizedArgument",
    "PluginError",
    "ProductNotFound",
    "RateLimited",
    "Refused",
    "ServiceError",
    "SettingsError",
    "SetupError",
    "TimedOut",
    "Unavailable",
    "UnsupportedType",
]


class MarketplaceError(Exception):
    """Everything the marketplace raises on purpose; its text is for the person who can act on it."""


class ServiceError(MarketplaceError):
    """A method could not do what it was asked.

    ``source`` says who failed: ``host``, ``plugin`` or the upstream's name. ``reason`` is a word for
    programs. ``retryable`` says whether the same call may succeed later. ``retry_after`` is in seconds,
    or a ``Retry-After`` of the upstream exactly as it was given. All other keywords are told to the
    caller as they are.
    """

    source: str | None = "plugin"
    retryable: bool = False

    def __init__(
        self,
        message: str = "",
        *,
        source: str | None = None,
        reason: str | None = None,
        retryable: bool | None = None,
        retry_after: float | str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.source = source or self.source
        self.reason = reason
        self.retryable = self.retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.details = details


class InvalidArgument(ServiceError):
    """An argument has the wrong type or value; ``parameter`` names it."""

    source = None

    @property
    def parameter(self) -> str | None:
        """The argument or configuration item at fault, where there is one."""
        return self.details.get("parameter")


class MissingArgument(InvalidArgument):
    """A required argument is absent."""


class NullArgument(InvalidArgument):
    """A required argument is null."""


class EmptyArgument(InvalidArgument):
    """A text argument is empty, or nothing but white space."""


class OversizedArgument(InvalidArgument):
    """A value is larger than can be handled."""


class MalformedBody(InvalidArgument):
    """The body cannot be read as JSON or as Unicode text."""


class NotAnObject(InvalidArgument):
    """The body is JSON, but not an object."""


class UnsupportedType(InvalidArgument):
    """The body is announced as neither JSON nor text."""


class NotFound(ServiceError):
    """What the caller names does not exist; ``id`` is what was named."""


class Conflict(ServiceError):
    """The call contradicts an earlier one."""


class Busy(ServiceError):
    """Somebody else has it just now; worth trying again."""

    retryable = True


class RateLimited(ServiceError):
    """Asked too often; worth trying again later."""

    retryable = True


class Refused(ServiceError):
    """The upstream will not do this request, however often it is asked."""


class Unavailable(ServiceError):
    """Something that is needed does not work at the moment."""

    retryable = True


class OutOfSpace(Unavailable):
    """There is no room left until something expires."""


class TimedOut(ServiceError):
    """It took longer than it may."""

    retryable = True


class SetupError(MarketplaceError):
    """The operator has something to mend; the text says what."""


class ManifestError(SetupError):
    """The manifest cannot be used."""


class ProductNotFound(SetupError):
    """No product of that name is on offer, or it is not installed."""


class PluginError(SetupError):
    """A plugin cannot be loaded, or does not offer what its product says."""


class InstallsError(SetupError):
    """The remembered installs cannot be read or written."""


class MissingAnswer(SetupError):
    """A configuration item has no answer, or was answered in a way that is not allowed."""


class InstallRefused(SetupError):
    """The answers were refused or could not be tried; nothing was remembered."""


class SettingsError(SetupError):
    """A setting of the host cannot be used."""


class DataNotDropped(SetupError):
    """What a service stored could not be dropped; its install is as it was."""


class BadCall(SetupError):
    """A command was called with a name or a value that is none; the text lists what there is."""


class NoHost(SetupError):
    """No host answers at an address, or whatever answers there is none."""


class CallFailed(SetupError):
    """The host answered a call with an error; the text is its code, its message and its hint."""
