"""For authors of nodes: a folder to start from, and a node that starts anew whenever its source changes."""

from __future__ import annotations

import keyword
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from sisock.cli.options import home_option
from sisock.errors import InvalidArgument, SetupError
from sisock.plugins import NODES
from sisock.uris import check_node_name

# Seconds: without a further change, an editor has saved all that it saves; between looks at whether the node ended by
# itself; until a node that does not stop is killed.
QUIET = 0.1
LOOK = 0.5
STOP_WITHIN = 5.0

MAX_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Classes that the generated files import. What begins with Test would be taken for a test.
_TAKEN = frozenset({"DataNode", "Field", "NodeContract", "Simulator", "Source"})
_SUFFIX = ".template"


@click.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where to write it.  [this folder]",
)
@home_option
def new_node(name: str, folder: Path) -> None:
    """Write a folder NAME to start a data node from, with a simulator: it runs and passes its tests at once.

    NAME is the folder, the Python package and what consumers call the node.
    """
    cls = class_name(name)
    write_node(name, cls, folder)
    there = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    click.echo(f"{folder / name} is written: source.py reads the instrument, node.py is what consumers see.")
    click.echo(f"Run it:   {there}sisock run --reload {name}:{cls}")
    click.echo(f"Test it:  {there}pytest {name}")


def class_name(name: str) -> str:
    """The class of a node called so; InvalidArgument for what cannot be the name of a node and of its package."""
    cls = "".join(part.capitalize() for part in name.split("_"))
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).lstrip("_0123456789")[:MAX_NAME].rstrip("_")
        hint = f" Try {better}." if _NAME.fullmatch(better) else ""
        raise InvalidArgument(
            f"{name!r} cannot be a node's folder: it takes a to z, digits and _, a letter first, {MAX_NAME} at most.{hint}"
        )
    check_node_name(name)
    if keyword.iskeyword(name) or keyword.iskeyword(cls) or cls in _TAKEN or cls.startswith("Test"):
        raise InvalidArgument(f"{name} is a word that Python or sisock uses itself. Choose another, such as my_{name}.")
    if name in entry_points(group=NODES).names:
        raise InvalidArgument(f"there is an installed node {name} already. Choose another name, such as my_{name}.")
    if name in sys.stdlib_module_names or find_spec(name) is not None:
        raise InvalidArgument(
            f"there is a Python package {name} already, and yours would hide it. Choose another name, such as my_{name}."
        )
    return cls


def write_node(name: str, cls: str, folder: Path) -> None:
    """Writes the files of a new node to `folder/name`; InvalidArgument if that is there already."""
    words = {"name": name, "cls": cls, "title": name.replace("_", " ").capitalize()}
    texts = {
        template.name.removesuffix(_SUFFIX): Template(template.read_text(encoding="utf-8")).substitute(words)
        for template in files("sisock.cli").joinpath("templates").iterdir()
        if template.name.endswith(_SUFFIX)
    }
    target = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.mkdir()
        for file, text in texts.items():
            (target / file).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise InvalidArgument(f"{target} is there already, and nothing in it was changed. Choose another name.") from None
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror}. Choose another place with --folder.") from error


def run_reloading(node: str, environment: Mapping[str, str]) -> None:
    """Runs a node as a process until Ctrl-C, and starts it anew whenever a Python file in its folder changes.

    A node that ends by itself, by an error in its source for example, is started at the next change.
    """
    folder, deep = source_folder(node)
    # Python takes a file of the same size and second for the one whose bytecode it has: so none is written.
    environment = {**environment, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "sisock", "run", node]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _changes_in(folder, deep=deep) as changes:
            while True:
                with _process(command, environment) as process:
                    changed = _next_change(changes, process, node)
                shown = changed.relative_to(folder) if changed.is_relative_to(folder) else changed
                click.echo(f"sisock: {shown} changed, {node} starts again", err=True)
    except KeyboardInterrupt:
        return


def source_folder(node: str) -> tuple[Path, bool]:
    """The folder that holds a node's source, and whether its subfolders belong to it; SetupError if there is none.

    Nothing is imported, since the source may hold an error.
    """
    installed = {entry.name: entry.module for entry in entry_points(group=NODES)}
    module = installed.get(node) or node.partition(":")[0]
    spec = _spec(module)
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        raise SetupError(f"there is no module {module!r} here or on the path of Python whose source could be watched.")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve(), True
    # A lone file may stand in a folder of anything; what belongs to a package does not.
    return Path(str(spec.origin)).resolve().parent, "." in module


def _spec(module: str) -> ModuleSpec | None:
    """As importlib's find_spec, which would import the packages that the module is in."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    spec, path, name = None, None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = next((found for finder in sys.meta_path if (found := finder.find_spec(name, path))), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    return spec


@contextmanager
def _changes_in(folder: Path, *, deep: bool) -> Iterator[queue.Queue[Path]]:
    """Watches a folder; what changes is put into the queue."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    changes: queue.Queue[Path] = queue.Queue(maxsize=1)

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            path = Path(os.fsdecode(event.dest_path or event.src_path))
            # Reading a file is an event, too.
            if path.suffix == ".py" and event.event_type in ("created", "modified", "moved", "deleted"):
                # One that waits is enough.
                with suppress(queue.Full):
                    changes.put_nowait(path)

    observer = Observer()
    observer.schedule(Handler(), str(folder), recursive=deep)
    observer.start()
    try:
        yield changes
    finally:
        observer.stop()
        observer.join()


@contextmanager
def _process(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this block, and with this program whatever ends it."""
    leash = [sys.executable, "-m", "sisock.site.leash", str(os.getpid())]
    process = subprocess.Popen([*leash, *command], env=environment)
    try:
        yield process
    finally:
        # An impatient second Ctrl-C does not stop the stopping.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.SIG_IGN)
        process.terminate()
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def _next_change(changes: queue.Queue[Path], process: subprocess.Popen[bytes], node: str) -> Path:
    """Waits for a change, and until what belongs to it has changed, too."""
    ended = False
    while True:
        try:
            changed = changes.get(timeout=LOOK)
            break
        except queue.Empty:
            if not ended and process.poll() is not None:
                ended = True
                click.echo(f"sisock: {node} ended (status {process.returncode}). Save its source to start it again.", err=True)
    try:
        while True:
            changes.get(timeout=QUIET)
    except queue.Empty:
        return changed
