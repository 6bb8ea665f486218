"""What the Prometheus API answers where it cannot: its kinds of errors, each with the HTTP status that it goes with."""

from __future__ import annotations

from typing import ClassVar

from sisock.errors import Busy, InvalidArgument, NotAuthorized, NotConnected, SisockError, TimedOut, TooMuch


class BadQuery(InvalidArgument):
    """The query, or a parameter of it, is not understood. The message names what is."""


class CannotEvaluate(SisockError):
    """The query is understood, but what it says of these series cannot be evaluated."""

    status: ClassVar[int] = 422


def kind_of(error: SisockError) -> tuple[int, str]:
    """The HTTP status and Prometheus' word for the kind of an error."""
    match error:
        case CannotEvaluate() | TooMuch():
            return 422, "execution"
        case InvalidArgument():
            return 400, "bad_data"
        case TimedOut():
            return 503, "timeout"
        case NotConnected() | Busy():
            return 503, "unavailable"
        case NotAuthorized():
            return 403, "execution"
        case _:
            return (error.status, "execution") if 400 <= error.status < 500 else (500, "internal")
