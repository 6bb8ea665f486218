"""The hub: it keeps the list of data nodes, tells of their coming and going, and settles who serves a name.

It runs as a component inside the router, so that the router and the list live and die together: after a restart every
node joins anew and is listed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallDetails, CallOptions, PublishOptions, RegisterOptions
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock import uris
from sisock.errors import InvalidArgument, NotAuthorized, NotRegistered, Superseded
from sisock.router import backlog
from sisock.router.figures import Figures
from sisock.router.gate import gate_of
from sisock.router.inside import Inside
from sisock.rules import Rules
from sisock.session import QuietSession
from sisock.times import is_seconds
from sisock.watching import Watchers
from sisock.wire_errors import raises_on_the_wire

# How long the holder of a claimed name has to show that it is alive, and then to go, in seconds.
ALIVE_WITHIN = 2
LEAVES_WITHIN = 1.0
# Seconds in which changes of who watches a node are gathered before the node is told.
TELL_WATCHED = 0.02
# Ranges that one call may say were corrected.
MAX_CORRECTED = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A node in the list, and the session that serves it. `instance` and `start` are what it told when it was added."""

    name: str
    description: str
    session: int
    authid: str | None
    instance: str | None = None
    start: int = 0

    def to_wire(self) -> dict[str, str]:
        """The node as consumers see it."""
        return {"name": self.name, "description": self.description}


def _is_range(one: Any) -> bool:
    return isinstance(one, (list, tuple)) and len(one) == 2 and all(map(is_seconds, one)) and one[0] <= one[1]


class Roster:
    """The nodes that are there, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def get(self, name: str) -> Entry | None:
        """The node of that name."""
        return self._entries.get(name)

    def add(self, entry: Entry) -> bool:
        """Lists a node; False if its name is taken."""
        if entry.name in self._entries:
            return False
        self._entries[entry.name] = entry
        return True

    def remove(self, name: str, session: int) -> Entry | None:
        """Takes the node off the list if that session has it, and answers it."""
        entry = self._entries.get(name)
        if entry is None or entry.session != session:
            return None
        return self._entries.pop(name)

    def of(self, session: int) -> list[Entry]:
        """All nodes of a session."""
        return [entry for entry in self if entry.session == session]


class Hub(QuietSession):
    """The router component that answers data_node.* and consumer.get_data_node."""

    log = Logger()

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.gate = gate_of(Path(config.extra["home"]))
        self.roster = Roster()
        self.watchers = Watchers()
        self.figures = Figures()
        self._backlogs = backlog.Backlogs(monotonic)
        self._to_tell: set[str] = set()
        self._leaving: dict[int, list[Deferred[None]]] = {}

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        """Subscribes to leaving sessions before it answers anyone, so that none is missed."""
        self.inside = Inside(self)
        self.inside.count(self.figures)
        self.gate.on_rules.append(self._rules_changed)
        await self.subscribe(self._session_left, "wamp.session.on_leave")
        looking = LoopingCall(self._cut_stuck_readers)
        looking.start(backlog.LOOK_EVERY).addErrback(lambda failure: self.log.failure("looking at backlogs stopped", failure))
        await self.subscribe(self._topic_created, "wamp.subscription.on_create")
        await self.subscribe(self._topic_deleted, "wamp.subscription.on_delete")
        with_caller = RegisterOptions(details_arg="details")
        for procedure, name in (
            (self.add_data_node, uris.ADD),
            (self.subtract_data_node, uris.SUBTRACT),
            (self.claim, uris.CLAIM),
            (self.watched, uris.WATCHED),
            (self.corrected, uris.CORRECTED),
            (self.tell_figures, uris.FIGURES),
            (self.get_data_node, uris.GET_DATA_NODE),
        ):
            await self.register(raises_on_the_wire(procedure), name, with_caller)

    async def add_data_node(
        self,
        name: str,
        description: str = "",
        session_id: int | None = None,
        instance: str | None = None,
        start: int = 0,
        *,
        details: CallDetails,
    ) -> bool:
        """`data_node.add`: lists a node and tells consumers; False if the name is taken.

        The node is the caller's: the session is the one that the router discloses, whatever the call says. The caller
        must hold both of the node's procedures.
        """
        uris.check_node_name(name)
        if not isinstance(description, str):
            raise InvalidArgument("a node's description is text")
        self._check_may_serve(details, name)
        if self.roster.get(name):
            return False
        for procedure in (uris.get_fields(name), uris.get_data(name)):
            if await self._holder(procedure) != details.caller:
                raise NotRegistered(f"register {procedure} before you add the node {name!r}")
        entry = Entry(name, description, details.caller, details.caller_authid, instance, start)
        if not self.roster.add(entry):
            return False
        self.gate.audit.note("joined", node=name, user=entry.authid, session=entry.session)
        self.log.info("{name} joined (session {session})", name=name, session=entry.session)
        self.figures.note(name, "came")
        await self._tell(uris.ADDED, entry)
        return True

    async def subtract_data_node(self, name: str, session_id: int | None = None, *, details: CallDetails) -> None:
        """`data_node.subtract`: takes a node of the caller off the list; an unknown one is a warning."""
        entry = self.roster.remove(name, details.caller) if isinstance(name, str) else None
        if entry is None:
            self.log.warn("session {session} has no node {name!r} to subtract", session=details.caller, name=name)
            return
        await self._left(entry)

    async def get_data_node(self, *, details: CallDetails) -> list[dict[str, str]]:
        """`consumer.get_data_node`: the nodes that are there and the caller may see, oldest first."""
        who = details.caller, details.caller_authid, details.caller_authrole
        return [entry.to_wire() for entry in self.roster if self.gate.allow(*who, "see", entry.name)]

    async def claim(self, name: str, instance: str, start: int = 0, *, details: CallDetails) -> bool:
        """`data_node.claim`: frees a name whose holder is dead, or is an older start of the caller's own instance.

        True once the name is free. False while another instance holds it and answers. Superseded if a newer start of
        the same instance does.
        """
        uris.check_node_name(name)
        if not isinstance(instance, str) or not isinstance(start, int):
            raise InvalidArgument("claim takes a name, an instance (text) and a start (a whole number)")
        self._check_may_serve(details, name)
        freed = await self._claim(name, instance, start, details)
        self.gate.audit.note("claim", node=name, user=details.caller_authid, session=details.caller, freed=freed)
        return freed

    async def _claim(self, name: str, instance: str, start: int, details: CallDetails) -> bool:
        entry = self.roster.get(name)
        holder = await self._any_holder(name)
        if holder is None:
            holder = entry.session if entry else None
        if holder is None or holder == details.caller:
            return True
        listed = entry is not None and entry.session == holder
        if entry is not None and listed and (entry.authid, entry.instance) == (details.caller_authid, instance):
            if entry.start > start:
                raise Superseded(f"{name}: start {entry.start} of this node serves its name; this is start {start}, and leaves")
        elif await self._answers(name):
            return False
        await self._end(holder, name)
        return True

    async def watched(self, name: str, *, details: CallDetails) -> dict[str, Any]:
        """`data_node.watched`: which live topics of a node have subscribers: {"timelines", "all", "latest"}.

        Each change is told on the topic `data_node.watched.<NAME>`, in the same form.
        """
        uris.check_node_name(name)
        self._check_may_serve(details, name)
        return self.watchers.of(name).to_wire()

    async def corrected(self, name: str, ranges: Sequence[Sequence[float]], *, details: CallDetails) -> None:
        """`data_node.corrected`: rows of a node that were final were replaced in these [start, end), UNIX seconds."""
        uris.check_node_name(name)
        self._check_may_serve(details, name)
        if not isinstance(ranges, list) or len(ranges) > MAX_CORRECTED or not all(map(_is_range, ranges)):
            raise InvalidArgument(f"corrected takes a name and up to {MAX_CORRECTED} ranges [start, end] of UNIX seconds")
        for start, end in ranges:
            self.figures.note(name, "corrected", float(start), float(end))

    async def tell_figures(self, after: int = 0, *, details: CallDetails) -> dict[str, Any]:
        """`data_node.figures`: what passed the router, counted, and what happened after that number; for the node `hub`."""
        self._check_may_serve(details, uris.HUB)
        if not isinstance(after, int):
            raise InvalidArgument("figures takes the number of what was last seen to happen")
        sessions = sum(1 for _ in self.inside.sessions())
        return {"nodes": len(list(self.roster)), "sessions": sessions, **self.figures.to_wire(after)}

    def _topic_created(self, session: int, topic: Mapping[str, Any]) -> None:
        self._tell_watched(self.watchers.created(int(topic["id"]), str(topic["uri"]), str(topic.get("match", "exact"))))

    def _topic_deleted(self, session: int, subscription: int) -> None:
        self._tell_watched(self.watchers.deleted(subscription))

    def _tell_watched(self, node: str | None) -> None:
        """Tells a node before long who watches it now; a page that opens subscribes many topics at once."""
        from twisted.internet import reactor

        if node is None or node in self._to_tell:
            return
        self._to_tell.add(node)
        reactor.callLater(TELL_WATCHED, self._tell_now, node)

    def _tell_now(self, node: str) -> None:
        self._to_tell.discard(node)
        if self.is_attached():
            self.publish(uris.watched(node), self.watchers.of(node).to_wire())

    def _cut_stuck_readers(self) -> None:
        if not self.is_attached():
            return
        for stuck in self._backlogs.look([(number, backlog.backlog_of(session)) for number, session in self.inside.all()]):
            self.log.warn(
                "session {session} is cut off: {size} bytes wait for it, and {reason}",
                session=stuck.session,
                size=stuck.size,
                reason=stuck.reason,
            )
            self.gate.audit.note("killed", session=stuck.session, why=f"it does not read: {stuck.reason}")
            self.inside.cut(stuck.session)

    def _check_may_serve(self, details: CallDetails, name: str) -> None:
        if not self.gate.allow(details.caller, details.caller_authid, details.caller_authrole, "serve", name):
            self.gate.audit.note("denied", user=details.caller_authid, action="serve", node=name, session=details.caller)
            raise NotAuthorized(f"{details.caller_authid} may not serve a node named {name!r}")

    async def _holder(self, procedure: str) -> int | None:
        """The session that has registered a procedure."""
        registration = await self.call("wamp.registration.match", procedure)
        if registration is None:
            return None
        try:
            callees = await self.call("wamp.registration.list_callees", registration)
        except ApplicationError as error:
            if error.error == ApplicationError.NO_SUCH_REGISTRATION:
                return None
            raise
        return callees[0] if callees else None

    async def _any_holder(self, name: str) -> int | None:
        for procedure in (uris.get_fields(name), uris.get_data(name)):
            holder = await self._holder(procedure)
            if holder is not None:
                return holder
        return None

    async def _answers(self, name: str) -> bool:
        """Whether the node's holder answers get_fields in time; an error of the node's own is an answer, too."""
        from twisted.internet import reactor

        # The call itself is not given up: the router answers it when the holder's session ends, and could not end it if
        # nobody waited for that answer any more.
        answered: Deferred[Any] = Deferred()
        asked = self.call(uris.get_fields(name), -1.0, 0.0, options=CallOptions(timeout=60 * ALIVE_WITHIN))
        asked.addBoth(lambda result: None if answered.called else answered.callback(result))
        try:
            await answered.addTimeout(ALIVE_WITHIN, reactor)
        except DeferredTimeout:
            return False
        except ApplicationError as error:
            # An error of the node's own is an answer, too.
            return error.error not in (ApplicationError.CANCELED, ApplicationError.NO_SUCH_PROCEDURE, ApplicationError.TIMEOUT)
        return True

    async def _end(self, session: int, name: str) -> None:
        """Ends a session and waits until it has left: by GOODBYE, and if that is not answered, by closing its transport."""
        self.log.warn("{name}: session {session} is ended, another one takes over", name=name, session=session)
        self.gate.audit.note("killed", node=name, session=session, why="another process took its name over")
        left: Deferred[None] = Deferred()
        self._leaving.setdefault(session, []).append(left)
        ended = self.inside.end(session, Superseded.uri, f"another process took over {name}", LEAVES_WITHIN)
        # Where nothing is left that could leave, nobody will tell of it.
        ended.addCallback(lambda was_there: None if was_there else self._release(session))
        ended.addErrback(lambda failure: self.log.failure("a session could not be ended", failure))
        await left

    async def _session_left(self, session: int, *_: Any) -> None:
        for entry in self.roster.of(session):
            self.roster.remove(entry.name, session)
            await self._left(entry)
        self._release(session)

    def _release(self, session: int) -> None:
        """Wakes the claims that wait for this session's end."""
        for waiting in self._leaving.pop(session, []):
            waiting.callback(None)

    async def _left(self, entry: Entry) -> None:
        self.log.info("{name} left (session {session})", name=entry.name, session=entry.session)
        self.figures.note(entry.name, "went")
        self.gate.audit.note("left", node=entry.name, user=entry.authid, session=entry.session)
        await self._tell(uris.SUBTRACTED, entry)

    async def _tell(self, topic: str, entry: Entry) -> None:
        await self._publish(topic, entry, None if self.gate.rules.rules is None else self._who_see(entry.name, self.gate.rules))

    async def _publish(self, topic: str, entry: Entry, sessions: Iterable[int] | None) -> None:
        """Tells these sessions, or all where it is None. To the router an empty list would mean everybody."""
        told = None if sessions is None else list(sessions)
        if told is None or told:
            await self.publish(topic, entry.to_wire(), options=PublishOptions(acknowledge=True, eligible=told))

    def _who_see(self, node: str, rules: Rules) -> set[int]:
        found = set()
        for joined in self.inside.sessions():
            user = self.gate.who(joined.id, joined.authid, joined.role)
            if user is not None and rules.allow(user, "see", node):
                found.add(joined.id)
        return found

    def _rules_changed(self, before: Rules, after: Rules) -> None:
        """Tells those who see a node now that it is there, and those who no longer do that it is gone."""
        Deferred.fromCoroutine(self._tell_changed(before, after)).addErrback(
            lambda failure: self.log.failure("what the rules changed could not be told", failure)
        )

    async def _tell_changed(self, before: Rules, after: Rules) -> None:
        for entry in self.roster:
            saw, sees = self._who_see(entry.name, before), self._who_see(entry.name, after)
            await self._publish(uris.ADDED, entry, sees - saw)
            await self._publish(uris.SUBTRACTED, entry, saw - sees)
