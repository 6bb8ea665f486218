"""Plots of rows with matplotlib: lines over time, one axis a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sisock.errors import InvalidArgument

if TYPE_CHECKING:
    from sisock.client.data import Rows

WIDTH, HEIGHT = 9.0, 2.6


def plot(lines: Sequence[Rows], ax: Any, style: Mapping[str, Any]) -> Any:
    """Draws all fields of these rows that are numbers; answers the axes, an array of them for several units."""
    from sisock.client.data import needed

    pyplot = needed("matplotlib.pyplot")
    chosen = [(rows, name) for rows in lines for name in rows.fields if rows.block.columns[name].type != "string"]
    if not chosen:
        raise InvalidArgument("there is nothing to plot: no field is a number")
    units = list(dict.fromkeys(rows.fields[name].units for rows, name in chosen))
    if ax is None:
        # The figure is pyplot's, so that a notebook shows it and a script can `plt.show()`.
        size = WIDTH, HEIGHT * max(1.4, len(units))
        _, axes = pyplot.subplots(len(units), 1, sharex=True, squeeze=False, figsize=size, layout="constrained")
        panels = dict(zip(units, axes[:, 0], strict=True))
    else:
        panels = dict.fromkeys(units, ax)
    for rows, name in chosen:
        spec = rows.fields[name]
        values = rows.block.columns[name].numbers()
        # A single row has no line.
        marks = {"marker": "."} if np.isfinite(values).sum() == 1 else {}
        drawn = {"drawstyle": "steps-post"} if spec.type == "bool" else {}
        panels[spec.units].plot(rows.time, values, **{"label": name, "linewidth": 1.0, **marks, **drawn, **style})
    for unit, panel in panels.items():
        names = [name for rows, name in chosen if rows.fields[name].units == unit]
        alone = len(names) == 1 and ax is None
        panel.set_ylabel(f"{names[0]} [{unit}]" if alone and unit else names[0] if alone else unit or "")
        if not alone:
            panel.legend(loc="best", fontsize="small")
        panel.grid(visible=True, alpha=0.3)
    if ax is not None:
        return ax
    axes[-1, 0].set_xlabel("time (UTC)")
    axes[0, 0].set_title(lines[0].node, fontsize="medium")
    return axes[0, 0] if len(units) == 1 else axes[:, 0]
