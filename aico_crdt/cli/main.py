"""`aico-crdt`: the group of all commands, each loaded when it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

import click
from click.shell_completion import get_completion_class

from aico_crdt.cli.command import Command, global_options, guard
from aico_crdt.cli.opening import App
from aico_crdt.home import PROGRAM
from aico_crdt.versions import versions


def _init() -> ModuleType:
    from aico_crdt.cli import init

    return init


def _members() -> ModuleType:
    from aico_crdt.cli import members

    return members


def _inspect() -> ModuleType:
    from aico_crdt.cli import inspect

    return inspect


def _why() -> ModuleType:
    from aico_crdt.cli import why

    return why


def _merge() -> ModuleType:
    from aico_crdt.cli import merge

    return merge


def _transfer() -> ModuleType:
    from aico_crdt.cli import transfer

    return transfer


def _upkeep() -> ModuleType:
    from aico_crdt.cli import upkeep

    return upkeep


def _serving() -> ModuleType:
    from aico_crdt.cli import serving

    return serving


def _demo() -> ModuleType:
    from aico_crdt.cli import demo

    return demo


_FAMILIES: Final[Mapping[Callable[[], ModuleType], tuple[str, ...]]] = {
    _init: ("init", "id"),
    _members: ("admit", "revoke", "devices"),
    _inspect: ("status", "inspect", "log"),
    _why: ("why",),
    _merge: ("merge", "diff", "bundle"),
    _transfer: ("export", "import"),
    _upkeep: ("verify", "repair", "compact", "vacuum", "backup", "restore"),
    _serving: ("serve", "sync"),
    _demo: ("demo",),
}
"""In the order in which the help lists them. Loading is put off because the store's libraries take their time."""


class Program(click.Group):
    """The commands of `_FAMILIES`; errors and signals end them as :mod:`aico_crdt.cli.command` says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in _FAMILIES.values() for name in names] + list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for load, names in _FAMILIES.items():
            if cmd_name in names:
                found: click.Command = load().COMMANDS[cmd_name]
                return found
        return self.commands.get(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        return guard(ctx, lambda: super(Program, self).invoke(ctx))


def _print_versions(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo("\n".join(f"{name} {version}" for name, version in versions().items()))
        context.exit()


@click.group(
    PROGRAM,
    cls=Program,
    params=[*global_options(outer=True)],
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 an error (its text says what to do), 2 wrong usage, 130 interrupted.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_versions,
    help="Print this release and what it stands on.",
)  # fmt: skip
@click.pass_context
def cli(context: click.Context) -> None:
    """What an AI companion knows, on every device of its owner: local, encrypted, replicated.

    Begin with `aico-crdt init`.
    """
    context.ensure_object(App)


@cli.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(aico-crdt completion bash)"      in ~/.bashrc
    zsh:   eval "$(aico-crdt completion zsh)"       in ~/.zshrc
    fish:  aico-crdt completion fish > ~/.config/fish/completions/aico-crdt.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, PROGRAM, "_AICO_CRDT_COMPLETE").source())


def main() -> None:
    """The entry point of the installed command."""
    cli(prog_name=PROGRAM)
