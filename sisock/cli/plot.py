"""The command `plot`: a picture of a node's fields."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from sisock.asking import Answered, Question
from sisock.cli.asking import ask, check_fields, span
from sisock.cli.completion import listed_fields, listed_nodes
from sisock.cli.opening import unwritable
from sisock.cli.options import home_option
from sisock.consumer import Consumer
from sisock.errors import SisockError
from sisock.fields import Catalogue
from sisock.times import LATEST


@click.command()
@click.argument("node", shell_complete=listed_nodes)
@click.argument("field", nargs=-1, required=True, shell_complete=listed_fields)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="A .png, .svg or .pdf to write."
)
@click.option("--start", default="-1h", show_default=True, help="From when: -10m, 2017-07-14, 2017-07-14T12:30, UNIX seconds.")
@click.option("--end", help="Until when, itself not included; as --start.  [open]")
@click.option("--max-points", type=click.IntRange(2), default=4000, show_default=True, help="At most so many points a field.")
@click.option("--title", help="What stands above it.  [the node and its description]")
@home_option
def plot(
    node: str, field: tuple[str, ...], output: Path, start: str, end: str | None, max_points: int, title: str | None
) -> None:
    """Draw NODE's FIELDs over time into a picture: those of the same units together, over UTC.

    It shows the extremes of each pixel, so that no spike is missing; a line is broken where rows are.

    \b
    sisock plot apex_archive apex_temperature apex_humidity --start 2017-07-14 -o weather.png
    """  # noqa: D301
    from sisock import plotting

    question = Question(list(dict.fromkeys(field)), *span(start, end), max_points)

    async def read(consumer: Consumer) -> tuple[Catalogue, dict[str, Answered], str]:
        offered = await consumer.get_fields(node)
        check_fields(node, offered, field)
        described = {one["name"]: one["description"] for one in await consumer.nodes()}
        return offered, await consumer.read(node, question), described.get(node) or ""

    offered, answers, description = ask(read)
    lines = []
    for name in question.fields:
        spec = offered.fields[name]
        answer = answers.get(spec.timeline) or Answered(spec.timeline)
        lines.append(plotting.line(name, spec, answer.block, _spacing(offered, answer, max_points)))
    if not any(len(one.t) for one in lines):
        click.echo(f"{node} has no rows of {', '.join(field)} in that time: the plot is empty.", err=True)
    first = description.strip().splitlines()[:1]
    above = title if title is not None else ": ".join([node, *first])
    asked = None if question.end >= LATEST else tuple(_moment(t) for t in (question.start, question.end))
    try:
        with TemporaryDirectory(prefix=".sisock-plot-", dir=output.parent) as folder:
            drawn = Path(folder) / output.name
            plotting.picture(drawn, above, lines, asked)  # type: ignore[arg-type]
            drawn.replace(output)
    except SisockError:
        # Some of them are OSErrors, too.
        raise
    except OSError as error:
        raise unwritable(output.parent, error) from error
    click.echo(f"{output} shows {', '.join(question.fields)} of {node}.")


def _spacing(offered: Catalogue, answer: Answered, max_points: int) -> float | None:
    """How far rows of an unbroken line may be apart, in seconds."""
    from sisock.plotting import BREAK

    interval, block = offered.timeline(answer.timeline).interval, answer.block
    if not interval or len(block) < 2:
        return None
    pixel = int(block.t[-1] - block.t[0]) / 1e6 / (max_points / 2) if answer.rows > len(block) else 0.0
    return BREAK * max(interval, pixel)


def _moment(t: int) -> object:
    import numpy as np

    return np.datetime64(t, "us")
