"""What `get -o` does: rows of a node into files, as they come, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from sisock.asking import Answered, Question
from sisock.blocks import Block
from sisock.cli.asking import ask, check_fields
from sisock.cli.opening import Tell, progress, unwritable
from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, SisockError
from sisock.files import FORMS, RowsFile, sync_folder
from sisock.recording import Recording
from sisock.uris import escape

# Values that may wait for the disk; beyond, no page is asked for.
MAX_WAITING = 4_000_000


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that was written."""

    path: Path
    timeline: str
    rows: int


def form_of(path: Path, form: str | None) -> str:
    """The form that was said, or that the file's name says."""
    told = form or path.suffix.lower().lstrip(".")
    if told not in FORMS:
        raise InvalidArgument(f"{path.name} does not say its form: end it in .parquet, .arrow or .csv, or add --format.")
    return told


def beside(output: Path, timeline: str) -> Path:
    """The file of one of several timelines: roof.parquet becomes roof.hourly.parquet."""
    return output.with_name(f"{output.stem}.{escape(timeline)}{output.suffix}")


def save(node: str, question: Question, output: Path, form: str | None) -> list[Saved]:
    """Writes the rows that a question is answered with; of several timelines each gets a file of its own."""
    told = form_of(output, form)
    return _whole(
        output, lambda folder, tell: ask(lambda consumer: _Saving(consumer, node, question, told, folder, tell).run())
    )


def save_recording(recording: Recording, output: Path, start: int, end: int) -> list[Saved]:
    """Writes the rows of a recording in [start, end), in microseconds; of several timelines each gets a file of its own."""
    form = form_of(output, None)

    def write(folder: Path, tell: Tell) -> list[Saved]:
        saved = []
        for timeline in recording.timelines:
            told = {"node": recording.about.node}
            path = folder / escape(timeline)[:100]
            file = RowsFile(path, form, timeline, recording.fields(timeline), told)
            low, high = recording.span(timeline) or (0, 1)
            for block in recording.rows(timeline, start, end):
                file.write(block)
                tell(timeline, int(block.t[-1]) - low, high - low)
            file.close()
            saved.append(Saved(path, timeline, file.rows))
        return saved

    return _whole(output, write)


def _whole(output: Path, write: Callable[[Path, Tell], list[Saved]]) -> list[Saved]:
    """Lets files be written beside their names, and moves them there when all are whole."""
    if output.is_dir():
        raise InvalidArgument(f"{output} is a folder; name a file in it.")
    try:
        with TemporaryDirectory(prefix=".sisock-get-", dir=output.parent) as folder, progress() as tell:
            saved = write(Path(folder), tell)
            for at, one in enumerate(saved):
                path = output if len(saved) == 1 else beside(output, one.timeline)
                one.path.replace(path)
                saved[at] = Saved(path, one.timeline, one.rows)
            sync_folder(output.parent)
    except SisockError:
        # Some of them are OSErrors, too.
        raise
    except OSError as error:
        raise unwritable(output.parent, error) from error
    return saved


class _Saving:
    """One run. Blocks are written in a thread, while the next page comes."""

    def __init__(self, consumer: Consumer, node: str, question: Question, form: str, folder: Path, tell: Tell) -> None:
        self._consumer, self._node, self._question = consumer, node, question
        self._form, self._folder, self._tell = form, folder, tell
        self._files: dict[str, RowsFile] = {}
        self._waiting: list[tuple[str, Block]] = []
        self._held = 0
        self._work: Deferred[None] | None = None
        self._expected = 0

    async def run(self) -> list[Saved]:
        question = self._question
        offered = await self._consumer.get_fields(self._node)
        check_fields(self._node, offered, question.fields)
        for timeline in dict.fromkeys(offered.fields[name].timeline for name in question.fields):
            fields = {name: offered.fields[name] for name in question.fields if offered.fields[name].timeline == timeline}
            told = {"node": self._node}
            self._files[timeline] = RowsFile(self._folder / escape(timeline)[:100], self._form, timeline, fields, told)
        try:
            if question.max_points is None and question.min_stride is None and question.method is None:
                await self._read_pages(question)
            else:
                await self._consumer.read(self._node, question, self._take)
            await self._drained(0)
            return await deferToThread(self._close)
        except BaseException:
            if self._work is not None:
                self._work.addErrback(lambda _: None)
            for file in self._files.values():
                file.discard()
            raise

    async def _read_pages(self, question: Question) -> None:
        def begin(tails: Mapping[str, Answered]) -> None:
            self._expected = sum(tail.rows for tail in tails.values())

        await self._consumer.read_all(
            *(self._node, question, self._take, begin),
            again=partial(self._consumer.back, self._node),
            room=lambda: self._drained(MAX_WAITING),
        )

    def _take(self, timeline: str, block: Block) -> None:
        self._waiting.append((timeline, block))
        self._held += _values(block)
        if self._work is None:
            self._begin()

    def _begin(self) -> None:
        taken, self._waiting = self._waiting, []
        self._work = deferToThread(self._write, taken)
        self._work.addCallback(self._written, sum(_values(block) for _, block in taken))

    def _write(self, taken: list[tuple[str, Block]]) -> None:
        for timeline, block in taken:
            self._files[timeline].write(block)
            self._tell(self._node, sum(file.rows for file in self._files.values()), self._expected)

    def _written(self, _: None, values: int) -> None:
        self._work = None
        self._held -= values
        if self._waiting:
            self._begin()

    async def _drained(self, most: int) -> None:
        """Waits until no more than so many values wait for the disk; raises why it did not take them."""
        while self._held > most and self._work is not None:
            await self._work

    def _close(self) -> list[Saved]:
        files = {name: file for name, file in self._files.items() if file.rows} or dict(list(self._files.items())[:1])
        for file in files.values():
            file.close()
        return [Saved(file.path, name, file.rows) for name, file in files.items()]


def _values(block: Block) -> int:
    return 64 + len(block) * (1 + len(block.columns))
