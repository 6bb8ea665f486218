"""Plots of rows: with matplotlib to a file, and with characters for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block
from sisock.errors import InvalidArgument, SetupError
from sisock.fields import Field

# A line is broken where rows are further apart than so many usual spacings, or pixels of what was made fewer.
BREAK = 3.0


@dataclass(frozen=True, slots=True)
class Line:
    """One field's values: times as datetime64, values as float64, NaN where the line is broken."""

    field: str
    units: str | None
    t: npt.NDArray[np.datetime64]
    values: npt.NDArray[np.float64]


def line(name: str, spec: Field, block: Block, spacing: float | None = None) -> Line:
    """The line of a field; it is broken where rows are more than `spacing` seconds apart. InvalidArgument for strings."""
    if spec.type == "string":
        raise InvalidArgument(f"{name} holds text, which has no plot. `sisock get` prints it.")
    if name not in block.columns:
        return Line(name, spec.units, np.empty(0, "datetime64[us]"), np.empty(0))
    column = block.columns[name]
    there = column.mask()
    t, values = block.t[there], column.numbers()[there]
    if spacing is not None and len(t) > 1:
        after = np.flatnonzero(np.diff(t) > spacing * 1e6) + 1
        t, values = np.insert(t, after, t[after - 1] + 1), np.insert(values, after, np.nan)
    return Line(name, spec.units, t.astype("datetime64[us]"), values)


def by_units(lines: Sequence[Line]) -> dict[str | None, list[Line]]:
    """Lines that share an axis: those of the same units."""
    grouped: dict[str | None, list[Line]] = {}
    for one in lines:
        grouped.setdefault(one.units, []).append(one)
    return grouped


def picture(path: Path, title: str, lines: Sequence[Line], span: tuple[Any, Any] | None = None) -> None:
    """Draws lines into a file (what its name ends in), an axis for each units, over UTC.

    SetupError where matplotlib is not installed, InvalidArgument for a name whose ending it does not know.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SetupError("matplotlib is not installed here. `pip install 'sisock[notebook]'` brings it.") from error
    groups = by_units(lines)
    figure = Figure(figsize=(11, 1.6 + 2.6 * len(groups)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    form = path.suffix.lower().lstrip(".")
    if form not in canvas.get_supported_filetypes():
        raise InvalidArgument(f"{path.name}: a plot's name ends in .png, .svg or .pdf")
    axes = figure.subplots(len(groups), sharex=True, squeeze=False)[:, 0]
    for axis, (units, members) in zip(axes, groups.items(), strict=True):
        for one in members:
            few = np.isfinite(one.values).sum() < 60
            axis.plot(one.t, one.values, label=one.field, linewidth=1, marker="." if few else None)
        alone = members[0].field if len(members) == 1 else ""
        axis.set_ylabel(" ".join(part for part in (alone, f"[{units}]" if units else "") if part))
        axis.grid(alpha=0.3)
        if not alone:
            axis.legend(loc="best", fontsize="small")
    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_formatter(formatter)
    axes[-1].set_xlabel("UTC")
    if span is not None:
        axes[-1].set_xlim(*span)
    figure.suptitle(title)
    figure.savefig(path, format=form, dpi=120)


def characters(lines: Sequence[Line], width: int, height: int, colour: bool) -> str:
    """Draws lines with characters, a plot for each units; the text may hold colours of terminals."""
    from uniplot import plot_to_string

    groups = {units: [one for one in members if len(one.t)] for units, members in by_units(lines).items()}
    groups = {units: members for units, members in groups.items() if members}
    drawn = []
    for units, members in groups.items():
        options: Mapping[str, Any] = {
            "width": max(20, width - 16),
            "height": max(4, height // len(groups) - 4),
            "lines": True,
            "y_unit": f" {units}" if units else "",
            "title": ", ".join(one.field for one in members),
            "color": colour and len(members) > 1,
            "legend_labels": [one.field for one in members] if len(members) > 1 else None,
        }
        drawn.append(plot_to_string(xs=[one.t for one in members], ys=[one.values for one in members], **options))
    return "\n".join(drawn)
