"""Errors on the wire: ours as WAMP carries them to a caller, and as a caller raises them again."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

from autobahn.wamp.exception import ApplicationError

from sisock.errors import BY_URI, InvalidArgument, NotAuthorized, NotConnected, SisockError, TimedOut, UnknownNode


def raises_on_the_wire(procedure: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The procedure as it is registered: its errors reach the caller with their URI and sentence, wrong arguments as well."""
    signature = inspect.signature(procedure)

    @wraps(procedure)
    async def registered(*args: Any, **kwargs: Any) -> Any:
        try:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidArgument(f"{procedure.__name__}{_public(signature)}: {error}") from None
            return await procedure(*args, **kwargs)
        except SisockError as error:
            raise error_to_wire(error) from error

    return registered


def _public(signature: inspect.Signature) -> str:
    """The parameters as a caller may give them."""
    return f"({', '.join(name for name in signature.parameters if name != 'details')})"


def error_to_wire(error: SisockError) -> ApplicationError:
    """The WAMP error of one of ours."""
    return ApplicationError(error.uri, str(error))


def error_from_wire(error: ApplicationError, procedure: str) -> SisockError:
    """Our error of a WAMP one that a call of this procedure met."""
    text = " ".join(str(part) for part in error.args) or error.error
    known: Mapping[str, type[SisockError]] = {
        "wamp.error.no_such_procedure": UnknownNode,
        "wamp.error.not_authorized": NotAuthorized,
        "wamp.error.canceled": NotConnected,
        "wamp.error.timeout": TimedOut,
        **BY_URI,
    }
    found = known.get(error.error)
    if found is UnknownNode:
        return UnknownNode(f"nobody answers {procedure}")
    return found(text) if found else SisockError(f"{error.error}: {text}")
