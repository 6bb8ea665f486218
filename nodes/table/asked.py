"""What was asked of `sisock serve`: the source, and whatever cannot be read off it. A TOML file may say all of it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from sisock.errors import SetupError, shown
from sisock.fields import TYPES, FieldType
from sisock.uris import check_node_name

UNITS = ("s", "ms", "us", "ns")
DATABASES = (".db", ".sqlite", ".sqlite3")
FILES = (".csv", ".tsv", ".txt", ".parquet")

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Described:
    """What a description says of one column."""

    field: str | None = None
    units: str | None = None
    description: str | None = None
    type: FieldType | None = None
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What `sisock serve` was asked. The source is a file, a folder, or a database's address, and may hold a password."""

    source: str = field(repr=False)
    name: str | None = None
    description: str | None = None
    table: str | None = None
    time: str | None = None
    series: str | None = None
    zone: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    columns_named: tuple[str, ...] = ()
    null: tuple[str, ...] = ()
    skip: int = 0
    every: float = 1.0
    lateness: float = 0.0
    columns: Mapping[str, Described] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.time_unit not in (None, *UNITS):
            raise SetupError(f"a time's unit is one of {', '.join(UNITS)}, not {shown(self.time_unit)}.")
        if not 0.05 <= self.every <= 86_400:
            raise SetupError(f"a table is looked at every 0.05 to 86400 seconds, not {self.every:g}.")
        if self.lateness < 0:
            raise SetupError("lateness is a number of seconds, 0 or more.")
        for mark, what in ((self.separator, "separator"), (self.decimal, "decimal")):
            if mark is not None and len(mark) != 1:
                raise SetupError(f"{what} is one character, not {shown(mark)}.")
        try:
            urlsplit(self.source if "://" in self.source else "")
        except ValueError as error:
            raise SetupError(f"this is no database's address: {error}. Write postgresql://user@host/database.") from None
        if self.zone is not None:
            _check_zone(self.zone)

    @classmethod
    def of(cls, source: str | None, describe: Path | None = None, **given: Any) -> Self:
        """What the command line and a description say together; of both, the command line counts."""
        said: dict[str, Any] = {}
        if source is not None and source.endswith(".toml") and describe is None:
            describe, source = Path(source), None
        if describe is not None:
            said = _described(describe)
        chosen = {**said, **{name: value for name, value in given.items() if value not in (None, ())}}
        chosen["source"] = source or chosen.get("source") or os.environ.get("SISOCK_SERVE_URL")
        if not chosen["source"]:
            raise SetupError("name a SOURCE: a .csv, .parquet or .db file, a folder of them, or postgresql://...")
        return cls(**chosen)

    @property
    def is_database(self) -> bool:
        """Whether a database is asked, and not files read."""
        return "://" in self.source or Path(self.source).suffix.lower() in DATABASES

    @property
    def node(self) -> str:
        """The node's name: what was given, or else the table's or the file's own."""
        if self.name is not None:
            return check_node_name(self.name)
        if "://" in self.source:
            stem = self.table or unquote(urlsplit(self.source).path).strip("/")
        else:
            path = Path(self.source)
            stem = self.table or (path.name if path.is_dir() else path.stem) or path.absolute().name
        name = _NOT_IN_NAMES.sub("_", stem).strip("_")
        if not name:
            raise SetupError(f"no node's name can be made of {self.shown}. Give one with --name.")
        return check_node_name(name)

    @property
    def shown(self) -> str:
        """The source as people may see it: without a password, and without what stands behind a question mark."""
        return without_secrets(self.source)

    def of_source(self, source: str) -> Asked:
        """The same asked of another file."""
        return replace(self, source=source)


def without_secrets(address: str) -> str:
    """An address without password and parameters; a path as it is."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, user.partition(":")[0] + at + host, parts.path, "", ""))


def _described(path: Path) -> dict[str, Any]:
    """What a TOML file says, with the paths in it taken from where it stands."""
    try:
        told = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} is no TOML: {error}.") from error
    # Names as people write them, on the command line and in the file.
    told = {name.replace("-", "_"): value for name, value in told.items()}
    known = {one.name: one for one in fields(Asked)}
    for name, value in told.items():
        if name not in known:
            raise SetupError(f"{path}: there is no {name!r}. There are {', '.join(sorted(known))}.")
        wanted: Any = {"columns": dict, "columns_named": list, "null": list, "skip": int}.get(name, str)
        wanted = (int, float) if name in ("every", "lateness") else wanted
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise SetupError(f"{path}: {name} cannot be {shown(value)}.")
    for name in ("columns_named", "null"):
        if name in told:
            told[name] = tuple(map(str, told[name]))
    told["columns"] = {name: _column(path, name, said) for name, said in told.get("columns", {}).items()}
    source = told.get("source")
    if source and "://" not in source:
        told["source"] = str(path.absolute().parent / Path(source).expanduser())
    return told


def _column(path: Path, name: str, said: Any) -> Described:
    if isinstance(said, str):
        return Described(units=said)
    known = {one.name for one in fields(Described)}
    if not isinstance(said, dict) or not known.issuperset(said):
        raise SetupError(f"{path}: [columns.{name}] takes {', '.join(sorted(known))}, or a text that is its units.")
    if said.get("type") not in (None, *TYPES):
        raise SetupError(f"{path}: the type of {name} is one of {', '.join(TYPES)}.")
    for key, value in said.items():
        if not isinstance(value, bool if key == "ignore" else str):
            raise SetupError(f"{path}: {key} of {name} cannot be {shown(value)}.")
    return Described(**said)


def _check_zone(zone: str) -> None:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(zone)
    except (KeyError, OSError, ValueError) as error:
        raise SetupError(f"there is no time zone {shown(zone)}; write Europe/Berlin, for example.") from error
