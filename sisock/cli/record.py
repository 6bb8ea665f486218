"""The command `record`: follows nodes into a folder of Parquet files."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread

from sisock.asking import Question
from sisock.cli.asking import following
from sisock.cli.completion import listed_nodes
from sisock.cli.opening import unwritable
from sisock.cli.options import home_option
from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, SisockError, UnknownNode
from sisock.fields import Catalogue
from sisock.followed import Missing
from sisock.following import Follower, Resume
from sisock.recording.about import About, locked
from sisock.recording.parts import Gap, file_name
from sisock.recording.tape import Tape
from sisock.splice import Unread
from sisock.times import iso, now, parse_duration, parse_time, resolve, to_micros, to_seconds

# Values that may wait for a commit; seconds between two looks at whether anything is wrong, and looks until the node is
# asked what it offers.
MAX_WAITING = 2_000_000
LOOK = 2.0
OFFERS = 10
_T = TypeVar("_T")
_SIZES = {"k": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@click.command()
@click.argument("node", nargs=-1, required=True, shell_complete=listed_nodes)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where to write."
)
@click.option("--start", default="now", show_default=True, help="From when: -1d, 2017-07-14, UNIX seconds; 1 for all there is.")
@click.option("--every", default="2s", show_default=True, help="How long rows may wait until they are on the disk.")
@click.option("--rotate", default="1h", show_default=True, help="When a file is closed for good and the next one begun.")
@click.option("--size", default="64M", show_default=True, help="How long a file becomes at most: k, M, G.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON a commit, for programs.")
@home_option
def record(node: tuple[str, ...], output: Path, start: str, every: str, rotate: str, size: str, as_json: bool) -> None:
    """Follow NODEs into Parquet files, until Ctrl-C: all fields, corrections and late rows included.

    Run again with the same DIR, it goes on where it was, whatever ended it: without a hole and with nothing twice, for
    as long as the node remembers what came meanwhile. What cannot be had any more is recorded as a gap, by name.
    `sisock replay DIR` puts a recording on the air, `sisock recording DIR` says what is in one.

    \b
    sisock record sensors -o recordings
    sisock record roof apex_archive -o recordings --start 1 --rotate 6h
    """  # noqa: D301
    from sisock.cli.reacting import guarded, serve

    wait = parse_duration(every)
    if wait <= 0 or parse_duration(rotate) <= 0:
        raise click.UsageError("--every and --rotate take a length of time above nothing")
    begin = to_micros(resolve(parse_time(start)))
    limits = {"max_size": _bytes(size), "max_age": parse_duration(rotate)}
    consumer = Consumer(following())
    nodes = [_Node(consumer, name, output / file_name(name), begin, wait, limits, as_json) for name in dict.fromkeys(node)]
    with ExitStack() as held:
        try:
            for one in nodes:
                one.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(one.folder))
        except SisockError:
            raise
        except OSError as error:
            raise unwritable(output, error) from error

        async def begin_all() -> Deferred[Any]:
            await consumer.start()
            for one in nodes:
                await one.prepare()
            running = [one.run() for one in nodes]
            return guarded(*running)

        async def end_all() -> None:
            for one in nodes:
                await one.stop()
            await consumer.stop()

        try:
            serve(begin_all, end_all)
        except SisockError:
            raise
        except OSError as error:
            raise SisockError(
                f"{error.filename or output} cannot be written: {error.strerror or error}. What was recorded before is whole; "
                "make room, and run it again: it goes on where it was."
            ) from error
    if not as_json:
        for one in nodes:
            for tape in one.tapes.values():
                reach = "" if tape.newest is None else f" up to {iso(to_seconds(tape.newest))}"
                click.echo(f"{one.name} {tape.timeline}: {tape.rows} rows came, recorded{reach} in {tape.folder}")


def _bytes(text: str) -> int:
    number, unit = (text[:-1], text[-1]) if text[-1:] in _SIZES else (text, "")
    if not number.isdecimal() or not int(number):
        raise InvalidArgument(f"{text!r} is no size: write 500k, 64M, 1G")
    return int(number) * _SIZES.get(unit, 1)


class _Node:
    """One node's recording."""

    def __init__(
        self, consumer: Consumer, name: str, folder: Path, start: int, every: float, limits: dict[str, Any], as_json: bool
    ) -> None:
        self.name, self.folder = name, folder
        self.tapes: dict[str, Tape] = {}
        self._consumer, self._start, self._limits, self._as_json = consumer, start, limits, as_json
        self._about: About | None = None
        self._follower: Follower | None = None
        self._lock = DeferredLock()
        self._commits = LoopingCall(self._commit_all)
        self._looks = LoopingCall(lambda: Deferred.fromCoroutine(self._look()))
        self._every = every
        self._words: str | None = None
        self._looked = 0
        self._stopping = False
        self._anew = False
        # Timelines without positions of which nothing came yet since they were opened.
        self._first: set[str] = set()

    async def prepare(self) -> None:
        """Learns what was recorded before, and what the node offers; a node that nobody knows is an error."""
        self._about = await deferToThread(About.read, self.folder)
        if self._about is None:
            offered = await self._consumer.get_fields(self.name)
            self._about = About(self.name, self._start, await self._description(), offered)
            await deferToThread(self._about.write, self.folder)
            self._say(f"recording {self.name} from {iso(to_seconds(self._start))} on into {self.folder}")
        elif self._about.node != self.name:
            raise InvalidArgument(f"{self.folder} is a recording of {self._about.node}. Record {self.name} elsewhere.")
        else:
            self._say(f"going on with the recording of {self.name} in {self.folder}")

    def run(self) -> Deferred[None]:
        """Records until it is stopped."""
        from sisock.cli.reacting import guarded

        loops = [self._commits.start(self._every, now=False), self._looks.start(LOOK, now=False)]
        return guarded(Deferred.fromCoroutine(self._run()), *loops)

    async def stop(self) -> None:
        """Commits what came, and composes what is open."""
        self._stopping = True
        for loop in (self._commits, self._looks):
            if loop.running:
                loop.stop()
        if self._follower is not None:
            for item in self._follower.ready():
                self._add(item)
            self._follower.stop()
        await self._commit_all(last=True)

    async def _run(self) -> None:
        try:
            while not self._stopping:
                self._anew = False
                follower = await self._open()
                async for item in follower:
                    self._add(item)
                    if sum(tape.waiting for tape in self.tapes.values()) > MAX_WAITING:
                        await self._commit_all()
                if not self._anew:
                    return
                await self._commit_all()
        except CancelledError:
            return

    async def _open(self) -> Follower:
        """Opens the tapes and follows from where they end."""
        about = self._about
        assert about is not None  # noqa: S101
        offered = await self._offered()
        # What was recorded once stays in the recording's words.
        new = [name for name in offered.fields if name not in about.catalogue.fields]
        fields = {**about.catalogue.fields, **offered.fields}
        timelines = {**about.catalogue.timelines, **offered.timelines}
        self._about = about = About(self.name, about.start, about.description, Catalogue(fields, timelines))
        await deferToThread(about.write, self.folder)
        resume: dict[str, Resume] = {}
        polled: list[int] = []
        self._first = set()
        for timeline in dict.fromkeys(spec.timeline for spec in offered.fields.values()):
            told = {name: spec for name, spec in fields.items() if spec.timeline == timeline}
            tape = self.tapes[timeline] = await deferToThread(
                Tape, self.folder / file_name(timeline), timeline, told, **self._limits
            )
            known = tape.told
            if known.newest is None:
                polled.append(about.start)
                continue
            if known.position is None:
                polled.append(known.newest)
                self._first.add(timeline)
                reason = f"{self.name} keeps no positions: what it changed while it was not recorded is not known"
                tape.gap(Gap(about.start, known.newest, reason))
                continue
            unread = known.unread
            if any(fields[name].timeline == timeline for name in new):
                # What the new fields held before is read with all others, from where the node has rows: what was recorded of
                # older ones stays.
                end = max(known.newest + 1, unread.end if unread is not None else 0)
                begin = await self._begin(told, timeline, about.start)
                unread = Unread(begin, end, anew=True) if begin is not None and begin < end else unread
            resume[timeline] = Resume(known.position, known.newest, unread)
        since = about.start if resume else min(polled, default=about.start)
        self._follower = self._consumer.follow(self.name, list(offered.fields), to_seconds(since), resume)
        return self._follower

    async def _offered(self) -> Catalogue:
        """What the node offers; it is waited for."""
        from autobahn.twisted.util import sleep

        while True:
            offered = await self._answered(lambda: self._consumer.get_fields(self.name))
            if offered.fields:
                return offered
            self._problem(f"{self.name} has no fields yet; they are waited for")
            await sleep(1.0)

    async def _answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """What the node answers; it is waited for."""
        from autobahn.twisted.util import sleep

        while True:
            try:
                answer = await ask()
            except UnknownNode:
                self._problem(f"{self.name} is not there; it is waited for")
            except SisockError as error:
                if error.status < 500:
                    raise
                self._problem(str(error))
            else:
                self._problem(None)
                return answer
            await sleep(1.0)

    async def _begin(self, fields: Iterable[str], timeline: str, start: int) -> int | None:
        """Where the node's rows of a timeline begin; None without any."""
        question = Question(tuple(fields), start, max_points=1, method="last")
        tail = (await self._answered(lambda: self._consumer.read(self.name, question))).get(timeline)
        if tail is None or tail.last is None:
            return None
        return start if tail.begin is None else max(start, tail.begin)

    async def _description(self) -> str:
        listed = {one["name"]: one["description"] for one in await self._consumer.nodes()}
        return listed.get(self.name) or ""

    def _add(self, item: Any) -> None:
        tape = self.tapes[item.timeline]
        if isinstance(item, Missing):
            self._say(f"gap in {self.name} {item.timeline}: {item.reason}")
            tape.gap(Gap(item.start, item.end, item.reason))
            return
        revises = item.revises
        newest = tape.newest
        if item.timeline in self._first and newest is not None and len(item.block) and int(item.block.t[0]) <= newest:
            # Of a node without positions the end is read again, and replaces what was recorded of it.
            revises = (*revises, (int(item.block.t[0]), min(newest, int(item.block.t[-1])) + 1))
        self._first.discard(item.timeline)
        tape.add(item.block, revises, item.position, item.unread)

    def _commit_all(self, *, last: bool = False) -> Deferred[None]:
        return self._lock.run(lambda: Deferred.fromCoroutine(self._commit(last=last)))

    async def _commit(self, *, last: bool) -> None:
        for tape in tuple(self.tapes.values()):
            if tape.broken or (not tape.waiting and not last):
                continue
            waiting = tape.take()
            rows = await deferToThread(tape.commit, waiting)
            if self._as_json and waiting:
                await deferToThread(click.echo, json.dumps(self._wire(tape, rows)))
            await deferToThread(tape.tidy, last=last)

    def _wire(self, tape: Tape, rows: int) -> dict[str, Any]:
        told = tape.told
        newest = None if told.newest is None else to_seconds(told.newest)
        position = None if told.position is None else told.position.to_wire()
        return {"node": self.name, "timeline": tape.timeline, "rows": rows, "newest": newest, "position": position}

    async def _look(self) -> None:
        """Sees what is wrong, and now and then whether the node offers more than it did."""
        follower = self._follower
        if follower is None or self._stopping:
            return
        self._looked += 1
        if not self._consumer.connected:
            self._problem("the router is away; it is tried again")
            return
        if self._looked % OFFERS and self._words is None:
            self._problem(None if follower.problem is None else str(follower.problem))
            return
        try:
            offered = await self._consumer.get_fields(self.name)
        except UnknownNode:
            self._problem(f"{self.name} is not there; it is waited for")
            return
        except SisockError as error:
            self._problem(str(error))
            return
        self._problem(None if follower.problem is None else str(follower.problem))
        new = [name for name, spec in offered.fields.items() if name not in follower.fields]
        if new and not self._stopping:
            self._say(f"{self.name} offers {', '.join(new)} now: recorded as well")
            self._anew = True
            follower.stop()

    def _problem(self, words: str | None) -> None:
        if words != self._words:
            self._words = words
            self._say(words if words is not None else f"{self.name} is there again")

    def _say(self, words: str) -> None:
        click.echo(f"sisock: {iso(round(now()))} {words}", err=True)
