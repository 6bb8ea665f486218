"""The node `data_feed`: what an observatory's agents publish, each channel a field, co-sampled ones on one timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from twisted.internet.threads import blockingCallFromThread

from sisock import DataNode, Field, Timeline
from sisock.blocks import Block, Column, concat, merge
from sisock.errors import InvalidArgument
from sisock.faces import Face
from sisock.history import Described
from sisock.http import application
from sisock.intake import Intake
from sisock.learning import Learning
from sisock.metrics import Health, Metrics, add_routes
from sisock.nodes.ocs_feed.document import DOCUMENT
from sisock.nodes.ocs_feed.feed import Observatory
from sisock.nodes.ocs_feed.settings import OPTIONS, Settings
from sisock.nodes.ocs_feed.source import Samples, read
from sisock.openapi import offer
from sisock.refusals import Refusals, add_refused
from sisock.retention import Retention
from sisock.times import EARLIEST, LATEST

if TYPE_CHECKING:
    from klein import Klein

# Where it tells how it is; SISOCK_OCS_FEED_PORT says otherwise.
PORT = 8021
# Seconds that a sample may come after newer ones, as agents publish in blocks.
LATENESS = 60.0
MAX_FIELDS = 100_000


class OcsFeed(DataNode):
    """What the observatory's agents publish on their feeds, live."""

    name = "data_feed"
    description = "What the observatory's agents publish on their feeds, live."
    max_rows = 1_000_000
    options = OPTIONS

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings.read()
        self.refusals = Refusals(self.name)
        self.intake: Intake[Samples] = Intake(self.name, self._keep, self._blocks, self._stored, self._refused)
        self.observatory = Observatory(self.settings.access, self.settings.feeds, self.take)
        self.events = 0
        self.face: Face | None = None
        self._learning = Learning(self.name, self._take_up)
        self._retention = Retention(self, self.settings.keep)

    def start(self) -> None:
        """Begins to follow the feeds."""
        from twisted.internet import reactor

        self._learning.start()
        self.intake.start()
        blockingCallFromThread(reactor, self._open)

    def _take_up(self) -> None:
        """Declares the channels that the history has, so that they can be read before they come again."""
        from twisted.internet import reactor

        history = self.history
        if not isinstance(history, Described):
            return
        found: dict[str, Field] = {}
        timelines = history.timelines()
        for timeline in timelines:
            names = history.fields(timeline)
            last = history.tail(timeline, names, EARLIEST, LATEST).block
            found |= {name: Field(type=column.type, timeline=timeline) for name, column in last.columns.items()}
        # Events, which declare what is new, are taken in the reactor's thread.
        blockingCallFromThread(reactor, self._declare_known, found, timelines)
        self._retention.apply(timelines)

    def _declare_known(self, found: Mapping[str, Field], timelines: Sequence[str]) -> None:
        new = {name: spec for name, spec in found.items() if name not in self.fields}
        self.declare(new, {timeline: Timeline(lateness=LATENESS) for timeline in timelines})

    def trouble(self) -> str | None:
        """Whether the store does not take what comes, or the observatory's router is away."""
        return self.intake.problem or self.observatory.trouble

    def stop(self) -> None:
        """Follows no more, and stores what came."""
        from twisted.internet import reactor

        self._learning.stop()
        blockingCallFromThread(reactor, self.observatory.stop)
        self.intake.stop()
        if self.face is not None:
            blockingCallFromThread(reactor, self.face.close)

    def _open(self) -> None:
        """Tells how it is at /healthz and /metrics, and begins to follow."""
        self.face = Face("ocs_feed", PORT)
        self.face.listen(self.application())
        self.observatory.start()

    def application(self) -> Klein:
        """What its port answers."""
        app, metrics, counts = application(), Metrics("ocs_feed"), self.refusals.counts
        metrics.counter("events", "Events that came", lambda: self.events)
        metrics.counter("refused", "Events and blocks that were malformed, by topic", lambda: counts, label="topic")
        metrics.gauge(
            "connected", "Whether there is a session with the observatory's router", lambda: self.observatory.connected
        )
        metrics.gauge("channels", "Channels there are", lambda: len(self.fields))
        metrics.gauge("waiting", "Blocks that wait for the store", lambda: self.intake.waiting)
        add_routes(app, metrics, self._how)
        add_refused(app, self.name, lambda: dict(self.refusals.newest))
        offer(app, DOCUMENT)
        return app

    def _how(self) -> Health:
        more = {"url": self.settings.access.url, "events": self.events, "refused": self.refusals.total}
        return Health(self.trouble(), more)

    def take(self, topic: str, args: Sequence[Any]) -> None:
        """Takes an event; what is wrong with it is counted for its topic."""
        self.events += 1
        if self.intake.full:
            self._refuse(topic, "the store takes no rows, and too many wait already")
            return
        try:
            if len(args) != 1:
                raise InvalidArgument(f"an event has one argument, this one {len(args)}")
            for samples in read(topic, args[0], self.settings.plain):
                if isinstance(samples, InvalidArgument):
                    self._refuse(topic, str(samples))
                elif len(samples.block):
                    self._take(topic, samples)
        except InvalidArgument as error:
            self._refuse(topic, str(error))

    def _take(self, topic: str, samples: Samples) -> None:
        new: dict[str, Field] = {}
        columns: dict[str, Column] = {}
        for name, column in samples.block.columns.items():
            known, channel = self.fields.get(name), samples.channels[name]
            # What has no value yet may become a text, too.
            if known is None and column.is_null:
                continue
            wrong = self._wrong(known, samples.timeline, column, len(new))
            if wrong is not None:
                # The channels beside it are as good as ever.
                self._refuse(topic, f"channel {channel!r} {wrong}")
                continue
            columns[name] = column
            if (known is None or known.description is None) and not column.is_null:
                new[name] = Field(f"{channel} on {topic}", type=column.type, timeline=samples.timeline)
        if new:
            self.declare(new, {samples.timeline: Timeline(lateness=LATENESS)})
        if columns:
            known_only = Samples(samples.timeline, Block(samples.block.t, columns), samples.channels)
            self.intake.take(known_only, 16 * len(samples.block) * (1 + len(columns)))

    def _wrong(self, known: Field | None, timeline: str, column: Column, new: int) -> str | None:
        """Why a channel is not taken, if so, in a block that has so many new ones before it."""
        if known is None:
            full = len(self.fields) + new >= MAX_FIELDS
            return f"is new, and there are {MAX_FIELDS} channels already" if full else None
        if known.timeline != timeline:
            return f"is in the block {known.timeline} already"
        if known.type != column.type and not column.is_null:
            return f"held {known.type}s, and now {column.type}s"
        return None

    def _refuse(self, topic: str, why: str) -> None:
        self.refusals.say(topic, why)
        self.health.errors += 1
        self.health.last_error = f"{topic}: {why}"[:500]

    # In the intake's thread

    def _keep(self, timeline: str, block: Block, correct: bool) -> Future[Any]:
        return self.append_block(timeline, block, correct=correct)

    def _blocks(self, batch: Sequence[Samples]) -> dict[str, Block]:
        by_timeline: dict[str, list[Block]] = {}
        for samples in batch:
            by_timeline.setdefault(samples.timeline, []).append(samples.block)
        return {timeline: joined(blocks) for timeline, blocks in by_timeline.items()}

    def _stored(self, batch: Sequence[Samples]) -> None:
        self._retention.apply({samples.timeline for samples in batch})

    def _refused(self, timeline: str, error: InvalidArgument) -> None:
        self._refuse(timeline, str(error))


def joined(blocks: Sequence[Block]) -> Block:
    """One block of several in the order in which they came, whatever their times; of equal times the last counts."""
    if all(one.t[0] > before.t[-1] for before, one in pairwise(blocks)):
        return concat(blocks)
    whole = blocks[0]
    for block in blocks[1:]:
        whole = merge(whole, block)
    return whole
