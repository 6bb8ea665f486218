"""Shell completion: Click's, with the names of nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class

from sisock.errors import SisockError

if TYPE_CHECKING:
    from sisock.consumer import Consumer

T = TypeVar("T")

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options and the names of nodes and their fields.

    \b
    bash: eval "$(sisock completion bash)" in ~/.bashrc
    zsh:  eval "$(sisock completion zsh)" in ~/.zshrc
    fish: sisock completion fish > ~/.config/fish/completions/sisock.fish
    """  # noqa: D301
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"Click has no completion for {shell}")
    click.echo(made(context.find_root().command, {}, "sisock", "_SISOCK_COMPLETE").source())


def installed_nodes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The installed nodes whose names begin so."""
    from importlib.metadata import entry_points

    from sisock.plugins import NODES

    return [CompletionItem(entry.name) for entry in entry_points(group=NODES) if entry.name.startswith(incomplete)]


def listed_nodes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The nodes that are there now and whose names begin so; none if no site answers."""
    nodes = _ask(context, lambda consumer: consumer.nodes()) or []
    return [CompletionItem(n["name"], help=n["description"]) for n in nodes if n["name"].startswith(incomplete)]


def listed_fields(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The fields of the node in the words before whose names begin so, but for those that are named already."""
    node, named = str(context.params.get("node")), context.params.get("field") or ()
    catalogue = _ask(context, lambda consumer: consumer.get_fields(node))
    fields = catalogue.fields.items() if catalogue else ()
    return [
        CompletionItem(name, help=field.description)
        for name, field in fields
        if name.startswith(incomplete) and name not in named
    ]


def _ask(context: click.Context, question: Callable[[Consumer], Awaitable[T]]) -> T | None:
    """The answer of the site, or None if there is none."""
    from sisock.cli.reacting import finish
    from sisock.consumer import Consumer
    from sisock.settings import Settings

    async def ask() -> T:
        access = Settings.read(home=context.find_root().meta.get("home")).consumer()
        consumer = await Consumer(access, call_timeout=2).start(patience=2)
        try:
            return await question(consumer)
        finally:
            await consumer.stop()

    try:
        return finish(ask)
    except SisockError:
        return None
