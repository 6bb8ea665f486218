"""Plugins: nodes and the bridge are found by their entry points, built-in ones through the same door as anybody's."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sisock.errors import SetupError
from sisock.node import DataNode

NODES = "sisock.nodes"
BRIDGES = "sisock.bridges"
TABLES = "sisock.tables"


def find_node(name: str) -> type[DataNode]:
    """The class of an installed node, or of `module:Class` on the path or in this folder; SetupError if there is none."""
    installed = {entry.name: entry for entry in entry_points(group=NODES)}
    if name in installed:
        return _node(name, _load(installed[name]))
    if ":" not in name:
        raise SetupError(f"there is no node {name!r}. Installed are {', '.join(sorted(installed))}; your own is module:Class.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise SetupError(f"{name!r} names no node; write module:Class.")
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise SetupError(f"there is no module {error.name!r} here or on the path of Python.") from error
        raise
    except SyntaxError as error:
        raise SetupError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    if not hasattr(imported, attribute):
        raise SetupError(f"the module {module} has no {attribute!r}.")
    return _node(name, getattr(imported, attribute))


def find_bridge() -> Any:
    """The bridge: what makes a service of (access, host, port)."""
    for entry in entry_points(group=BRIDGES):
        return _load(entry)
    raise SetupError("the bridge is not installed. Install sisock[site].")


def find_tables() -> Any:
    """What makes nodes of tables: a module with `open_table` and `name_of`."""
    for entry in entry_points(group=TABLES):
        return _load(entry)
    raise SetupError("the nodes are not installed. Install sisock anew.")


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ImportError as error:
        raise SetupError(f"{entry.name} cannot be imported: {error}. Is what it needs installed (sisock[site])?") from error


def _node(name: str, found: Any) -> type[DataNode]:
    if not (isinstance(found, type) and issubclass(found, DataNode)):
        raise SetupError(f"{name} is no class of data nodes; it must subclass sisock.DataNode.")
    return found
