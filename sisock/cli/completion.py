"""Shell completion: Click's, with the names of nodes."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from sisock.errors import SisockError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options and the names of nodes.

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
    from sisock.cli.reacting import finish
    from sisock.consumer import Consumer
    from sisock.settings import Settings

    async def ask() -> list[dict[str, str]]:
        consumer = await Consumer(Settings.read(home=context.find_root().meta.get("home")).consumer()).start(patience=2)
        try:
            return await consumer.nodes()
        finally:
            await consumer.stop()

    try:
        nodes = finish(ask)
    except SisockError:
        return []
    return [CompletionItem(n["name"], help=n["description"]) for n in nodes if n["name"].startswith(incomplete)]
