"""What a notebook shows of a hub, a node, its fields and rows: tables, escaped through and through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sisock.blocks import Block
from sisock.client.glance import MOST_NODES, Glance, Seen
from sisock.downsample import thin
from sisock.fields import Catalogue, Field
from sisock.times import iso, now

if TYPE_CHECKING:
    from sisock.client.data import Rows

WIDTH, HEIGHT = 120, 22
# Rows of a table.
MOST = 200
POINTS = 120
_STEPS = (("y", 365.25 * 86400.0), ("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
_LEFT = ' style="text-align:left"'


def ago(seconds: float, present: float | None = None) -> str:
    """How long ago a time was, for people: `2.5 s ago`, `3.2 d ago`, `in 4 s`."""
    age = (now() if present is None else present) - seconds
    unit, step = next((one for one in _STEPS if abs(age) >= one[1]), _STEPS[-1])
    amount = f"{abs(age) / step:.2g}" if abs(age) / step < 10 else f"{abs(age) / step:.0f}"
    return f"{amount} {unit} ago" if age >= 0 else f"in {amount} {unit}"


def sparkline(values: Sequence[float], title: str = "") -> str:
    """Values as a small line of inline SVG; where one is no number, the line is broken."""
    there = [value for value in values if math.isfinite(value)]
    if not there:
        return ""
    low, high = min(there), max(there)
    # Of values near the ends of what a float holds, the difference is none.
    span = high - low if math.isfinite(high - low) else math.inf
    across = (WIDTH - 4) / max(1, len(values) - 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if not math.isfinite(value):
            runs.append([])
            continue
        height = 0.5 if span in (0.0, math.inf) else (value - low) / span
        runs[-1].append(f"{2 + index * across:.1f},{HEIGHT - 3 - height * (HEIGHT - 6):.1f}")
    drawn = "".join(
        f'<polyline points="{" ".join(run)}"/>' if len(run) > 1 else f'<circle cx="{x}" cy="{y}" r="1" fill="currentColor"/>'
        for run in runs
        if run
        for x, y in [run[0].split(",")]
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'fill="none" stroke="currentColor" stroke-width="1.2"><title>{escape(title)}</title>{drawn}</svg>'
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], caption: str, notes: Iterable[str] = ()) -> str:
    """A table of cells that are HTML already, under a caption that is."""
    head = "".join(f"<th{_LEFT}>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td{_LEFT}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    below = "".join(f"<div><small>{escape(note)}</small></div>" for note in notes)
    return f"<div><div>{caption}</div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"


def hub_html(url: str, nodes: Sequence[Seen], problem: str | None = None) -> str:
    """A hub: its nodes, with how many fields each has and how fresh it is."""
    rows = [
        (
            f"<code>{escape(node.name)}</code>",
            escape(node.description),
            "" if node.fields is None else str(node.fields),
            escape(node.problem) if node.problem else "" if node.newest is None else ago(node.newest),
        )
        for node in nodes[:MOST]
    ]
    notes = [problem] if problem else []
    if not nodes and not problem:
        notes.append("No data nodes are here. `sisock run NODE` starts one.")
    if len(nodes) > MOST_NODES:
        notes.append(f"{len(nodes)} nodes are here; the first {MOST_NODES} were looked at.")
    return table(("node", "description", "fields", "newest"), rows, f"<b>sisock hub</b> {escape(url)}", notes)


def node_html(name: str, description: str, catalogue: Catalogue, glance: Glance) -> str:
    """A node: its description above its fields."""
    caption = f"<b>{escape(name)}</b> {escape(description)}"
    return fields_html(name, catalogue, glance, caption)


def fields_html(node: str, catalogue: Catalogue, glance: Glance, caption: str | None = None) -> str:
    """The fields of a node: units, the last value, its age, and how it went of late."""
    rows = []
    for name, spec in list(catalogue.fields.items())[:MOST]:
        newest = glance.newest.get(spec.timeline)
        told = (_value(glance.last.get(name), spec), "" if newest is None else escape(ago(newest)))
        line = sparkline(glance.lines.get(name, ()), f"{node}: {name}")
        rows.append((f"<code>{escape(name)}</code>", *told, line, escape(spec.timeline), escape(spec.description or "")))
    notes = [glance.problem] if glance.problem else []
    if len(catalogue.fields) > MOST:
        notes.append(f"{len(catalogue.fields)} fields; the first {MOST} are shown.")
    title = f"<b>{len(catalogue.fields)} fields of {escape(node)}</b>" if caption is None else caption
    return table(("field", "last", "newest", "of late", "timeline", "description"), rows, title, notes)


def rows_html(rows: Rows) -> str:
    """Rows: a line a field, with its units, the first and the last value."""
    lines: list[tuple[str, ...]] = []
    for part in rows.lines():
        for name, spec in list(part.fields.items())[: MOST - len(lines)]:
            column = part.block.columns[name]
            ends = [_value(column.take(slice(at, at + 1)).to_list()[0], spec) if len(part) else "" for at in (0, len(part) - 1)]
            line = "" if column.type == "string" else sparkline(_thinned(part, name), f"{rows.node}: {name}")
            lines.append((f"<code>{escape(name)}</code>", *ends, line, escape(spec.description or "")))
    span = f", {iso(float(rows.t[0]))} to {iso(float(rows.t[-1]))}" if len(rows) else ""
    caption = f"<b>{len(rows)} rows of {escape(rows.node)}</b>{escape(span)}"
    return table(("field", "first", "last", "", "description"), lines, caption)


def _thinned(rows: Rows, name: str) -> list[float]:
    block = thin(Block(rows.block.t, {name: rows.block.columns[name]}), POINTS, "minmax")
    return list(block.columns[name].numbers().tolist())


def _value(value: Any, spec: Field) -> str:
    if value is None:
        return escape(f"[{spec.units}]") if spec.units else ""
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return escape(f"{shown[:60]} {spec.units or ''}".rstrip())
