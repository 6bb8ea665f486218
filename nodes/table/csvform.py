"""What a CSV file looks like: its separator, its header, what its columns hold; and rows of it as Arrow arrays."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sisock.errors import SetupError
from sisock.nodes.table.asked import Asked
from sisock.nodes.table.layout import unique

# Bytes at a file's beginning by which it is judged.
SAMPLE = 1 << 20
SEPARATORS = ",;\t|"
# Bytes that Arrow takes together.
BLOCK = 1 << 20
_NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "none"]
_BOOLS = {"true_values": ["true", "True", "TRUE"], "false_values": ["false", "False", "FALSE"]}
_BOM = b"\xef\xbb\xbf"
# What a number looks like, with a point; Arrow's own reader decides in the end.
_NUMBER = r"^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|[iI]nf(inity)?|[nN]a[nN])$"


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a CSV file is written. `body` is where its rows begin, `lines` how many lines stand before them."""

    names: tuple[str, ...]
    header: bytes
    body: int
    lines: int
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    null: tuple[str, ...] = ()

    def utf8(self, data: bytes) -> bytes:
        """Bytes of the file as UTF-8."""
        if self.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii"):
            return data
        return data.decode(self.encoding, "replace").encode()

    def parse(self, data: bytes, types: Mapping[str, Any] | None, refused: Any) -> Any:
        """Rows of whole lines, in UTF-8, as an Arrow table; `types` of None lets Arrow find them.

        `refused` is called with each row that has another number of columns. ArrowInvalid for a value of another type.
        """
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        def skip(row: Any) -> str:
            refused(row)
            return "skip"

        quoted = b'"' in data
        # A program that looks at a short file and ends would end while Arrow's threads only just begin, which aborts it.
        options = {"use_threads": len(data) > BLOCK, "block_size": len(data) + 1 if quoted else BLOCK}
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(column_names=list(self.names), **options),
            arrow_csv.ParseOptions(delimiter=self.separator, newlines_in_values=quoted, invalid_row_handler=skip),
            arrow_csv.ConvertOptions(
                column_types=types,
                null_values=[*_NULLS, *self.null],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                decimal_point=self.decimal,
                **_BOOLS,
            ),
        )

    def line_of(self, data: bytes, row: int) -> int | None:
        """The line, counted from 1, that a row of `data` ends on; rows of another number of columns do not count."""
        found = 0
        reader = csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""), delimiter=self.separator)
        for cells in reader:
            if len(cells) == len(self.names):
                if found == row:
                    return reader.line_num
                found += 1
        return None


def look(path: Path, asked: Asked) -> CsvForm:
    """The form of a file; SetupError for one that is none or whose header cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(SAMPLE)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.") from error
    if not data:
        raise SetupError(f"{path} is empty: its first line names the columns.")
    encoding = asked.encoding or "utf-8"
    if b"\0" in data:
        what = "UTF-16, which is not read; save it as UTF-8" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "no text"
        raise SetupError(f"{path} holds {what}.")
    at = len(_BOM) if data.startswith(_BOM) else 0
    lines = 0
    for _ in range(asked.skip):
        at, lines = data.find(b"\n", at) + 1, lines + 1
        if not at:
            raise SetupError(f"{path} has no {asked.skip} lines to be skipped.")
    if asked.columns_named:
        first = asked.separator or _separator(data[at:].split(b"\n", 1)[0].decode(encoding, "replace"))
        form = CsvForm(tuple(unique(asked.columns_named)), b"", at, lines, first)
    else:
        end = data.find(b"\n", at)
        if end < 0:
            if b"\r" in data:
                raise SetupError(f"{path} ends its lines with CR alone, which is not read.")
            if len(data) == SAMPLE:
                raise SetupError(f"{path} has no line feed in its first {SAMPLE} bytes; it is no CSV.")
            end = len(data)
        try:
            header = data[at:end].decode(encoding).rstrip("\r")
        except UnicodeDecodeError:
            raise SetupError(
                f"{path}: its header is not {encoding}. Say what it is, with --encoding latin-1 for example."
            ) from None
        except LookupError:
            raise SetupError(f"there is no encoding {encoding!r}.") from None
        separator = asked.separator or _separator(header)
        names = next(csv.reader([header], delimiter=separator), [])
        if len(names) < 2:
            raise SetupError(
                f"{path}: its first line names one column alone, {header[:60]!r}. Say what stands between columns with "
                "--separator, or how many lines come before the names with --skip."
            )
        if all(_is_value(name) for name in names):
            raise SetupError(f"{path}: its first line holds values, {header[:60]!r}. Name the columns with --columns t,air.")
        form = CsvForm(tuple(unique(names)), data[at : end + 1], min(end + 1, len(data)), lines + 1, separator)
    decimal = asked.decimal or _decimal(data[form.body :].decode(encoding, "replace"), form)
    return CsvForm(form.names, form.header, form.body, form.lines, form.separator, decimal, encoding, asked.null)


def sample(path: Path, form: CsvForm, *, newest: bool = False) -> Any:
    """The first rows of a file, or its last, as Arrow finds their types."""
    import pyarrow as pa

    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(form.body, end - SAMPLE // 16) if newest else form.body)
        cut = file.tell() > form.body
        data = file.read(SAMPLE)
    if cut:
        # It begins in the middle of a line.
        data = data[data.find(b"\n") + 1 :]
    data = form.utf8(data[: whole(data, form.separator)])
    try:
        return form.parse(data, None, lambda _: None) if data else form.parse(b"\n", None, lambda _: None)
    except pa.ArrowInvalid as error:
        raise SetupError(f"{path} is no CSV: {error}.") from error


def whole(data: bytes, separator: str = ",") -> int:
    """How many of these bytes are whole rows: up to a line feed that no quotes are open at.

    A quote opens only where a value begins; elsewhere it is a character like others.
    """
    cut = data.rfind(b"\n") + 1
    data = data[:cut]
    if b'"' not in data:
        return cut
    # All at once, where every other quote stands where one may open; the second of a doubled one may, too.
    characters = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(characters == ord('"'))
    begins = places[::2]
    before = np.where(begins > 0, characters[begins - 1], ord("\n"))
    if np.isin(before, [ord(separator) % 256, ord("\n"), ord('"')]).all():
        if len(places) % 2 == 0:
            return cut
        opened = int(begins[before != ord('"')][-1])
        # The line feed before it may stand in other quotes.
        return whole(data[: data.rfind(b"\n", 0, opened) + 1], separator)
    mark = re.escape(separator.encode())
    quoted = re.compile(rb"(?:\A|(?<=\n)|(?<=" + mark + rb'))"[^"]*(?:""[^"]*)*("?)')
    open_ones = [match.start() for match in quoted.finditer(data) if not match[1]]
    return whole(data[: data.rfind(b"\n", 0, open_ones[-1]) + 1], separator) if open_ones else cut


def numbers_of(array: Any, kind: str, decimal: str) -> tuple[Any, Any]:
    """Texts as numbers, and which of them are none though they are something."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(array)
    if decimal != ".":
        texts = pc.replace_substring(texts, decimal, ".")
    wanted = pa.int64() if kind == "int" else pa.float64()
    try:
        return texts.cast(wanted), None
    except pa.ArrowInvalid:
        if kind == "int":
            raise
    fits = pc.match_substring_regex(texts, _NUMBER)
    bad = pc.and_(array.is_valid(), pc.invert(pc.fill_null(fits, fill_value=False)))
    return pc.if_else(fits, texts, pa.scalar(None, pa.string())).cast(wanted), bad


def bools_of(array: Any) -> tuple[Any, Any]:
    """Texts as booleans, and which of them are none though they are something."""
    import pyarrow as pa
    import pyarrow.compute as pc

    true = pc.is_in(array, pa.array(_BOOLS["true_values"]))
    known = pc.or_(true, pc.is_in(array, pa.array(_BOOLS["false_values"])))
    bad = pc.and_(array.is_valid(), pc.invert(known))
    return pc.if_else(known, true, pa.scalar(None, pa.bool_())), bad


def _separator(header: str) -> str:
    """What stands between the names of a header, most often."""
    counts = {mark: sum(1 for _ in _outside_quotes(header, mark)) for mark in SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","


def _outside_quotes(text: str, mark: str) -> Iterator[int]:
    inside = False
    for place, one in enumerate(text):
        inside ^= one == '"'
        if one == mark and not inside:
            yield place


def _decimal(text: str, form: CsvForm) -> str:
    """A comma, where columns are parted by something else and most numbers with a fraction have one."""
    if form.separator == ",":
        return "."
    points = commas = 0
    for cells in list(csv.reader(text.splitlines()[:200], delimiter=form.separator)):
        for cell in cells:
            digits = cell.strip().lstrip("+-")
            points += digits.replace(".", "", 1).isdigit() and "." in digits
            commas += digits.replace(",", "", 1).isdigit() and "," in digits
    return "," if commas > points else "."


def _is_value(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return bool(text) and text[0].isdigit() and ":" in text
    return True
