"""What commands that read have in common: asking as the home's consumer, and how they say what they were told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from sisock.cli.options import settings
from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, UnknownField
from sisock.fields import Catalogue
from sisock.session import Access
from sisock.times import LATEST, parse_time, resolve, to_micros


def ask(question: Callable[[Consumer], Coroutine[Any, Any, Any]]) -> Any:
    """Asks as the home's consumer, and leaves."""
    from sisock.cli.reacting import finish

    access = settings().consumer()

    async def main() -> Any:
        consumer = await Consumer(access).start()
        try:
            return await question(consumer)
        finally:
            await consumer.stop()

    return finish(main)


def following() -> Access:
    """How those join who follow for long: over the WebSocket, which is pinged; a raw socket is not."""
    return settings().consumer(web=True)


def check_fields(node: str, offered: Catalogue, names: Iterable[str]) -> None:
    """Raises UnknownField for a field that the node does not have."""
    for name in names:
        if name not in offered.fields:
            raise UnknownField(f"{node} has no field {name!r}. `sisock fields {node}` lists them.")


def span(start: str, end: str | None) -> tuple[int, int]:
    """A range that a person wrote, in microseconds; InvalidArgument if it ends before it begins."""
    low = to_micros(resolve(parse_time(start)))
    high = LATEST if end is None else to_micros(resolve(parse_time(end)))
    if low >= high:
        raise InvalidArgument(f"--end {end} is not after --start {start}")
    return low, high


def shown(value: Any) -> str:
    """A value for people: numbers in ten digits; CSV and JSON have all of them."""
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def age(seconds: float) -> str:
    """How long ago, for people: 0.4 s, 12 s, 5 min, 3.2 h, 14 d, 8.3 y."""
    size = abs(seconds)
    for unit, length, most in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172800.0), ("d", 86400.0, 63115200.0)):
        if size < most:
            return f"{seconds / length:.{1 if size < 10 * length else 0}f} {unit}"
    return f"{seconds / 31557600.0:.1f} y"
