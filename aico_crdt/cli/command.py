"""What all commands share: the global options, how an error is told, how a signal ends them.

Exit codes: 0 done, 1 a typed error (stderr says what happened and what to do), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from aico_crdt.cli import opening, output
from aico_crdt.cli.opening import App
from aico_crdt.errors import AicoError, InvalidValue, MachineError, NotFound, PeerError, ReadOnly

INTERRUPTED: Final = 130
GLOBAL_OPTIONS: Final = "Global options: --store, --key, --config, --log-file, -v; see `aico-crdt --help`."
Function = TypeVar("Function", bound=Callable[..., Any])


class Failure(click.ClickException):
    """A typed error on its way to stderr."""

    exit_code = 1

    def __init__(self, error: AicoError, context: click.Context) -> None:
        super().__init__(str(error))
        self.error = error
        self.verbosity = context.ensure_object(App).verbosity
        self.cure = error.cure or _cure(error)

    def show(self, file: IO[Any] | None = None) -> None:
        if self.verbosity >= 2:
            click.echo("".join(traceback.format_exception(self.error)), err=True, nl=False)
        click.echo(f"Error: {output.clean(self.error.what)}", err=True)
        for line in self.cure.splitlines():  # a cure may show a sample
            click.echo(output.clean(line), err=True)


class InputFile(click.Path):
    """A file to read. One that is not there, or not readable, is a typed error, not wrong usage."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path)
        if ctx is not None and ctx.resilient_parsing:
            return path
        if not path.exists():
            raise NotFound(f"There is no file {path}.", "Check its name and where it is.")
        if path.is_dir():
            raise InvalidValue(f"{path} is a directory, not a file.", "Name a file in it.")
        if not os.access(path, os.R_OK):
            raise ReadOnly(f"{path} cannot be read.", "Check its mode and owner.")
        return path


def _cure(error: AicoError) -> str:
    """What to do about an error that arose too deep down to know."""
    if isinstance(error, PeerError):
        return "Nothing was changed. Have what was sent or carried here made and copied again."
    if isinstance(error, MachineError):
        return "Nothing was changed. `aico-crdt verify` tells whether the store is sound."
    return "Correct it and try again; --help tells what the command takes."


def _take(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Store an option's value in the App; the innermost one that was given wins."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value != 0:
            setattr(context.ensure_object(App), name, value)

    return callback


def global_options(*, outer: bool) -> list[click.Option]:
    """The options that may stand before a command's name (`outer`, also from the environment) or after it."""

    def option(names: list[str], field: str, help: str, env: str | None, **more: Any) -> click.Option:
        return click.Option(
            names, expose_value=False, callback=_take(field), help=help, hidden=not outer,
            envvar=env if outer else None, show_envvar=outer and env is not None, **more,
        )  # fmt: skip

    path = click.Path(path_type=Path)
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    return [
        option(["--store"], "store", "The store's directory.", opening.ENV_STORE, type=path, metavar="PATH"),
        option(["--key"], "key", "This device's key file.", opening.ENV_KEY, type=path, metavar="FILE"),
        option(["--config"], "config_path", "Settings, in TOML.", opening.ENV_CONFIG, type=file, metavar="FILE"),
        option(["--log-file"], "log_file", "Log there as well.", opening.ENV_LOG, type=path, metavar="FILE"),
        option(["-v", "--verbose"], "verbosity", "Log more; -vv shows where an error arose.", None, count=True),
    ]


class Command(click.Command):
    """A command that takes the global options also after its name."""

    def __init__(self, name: str | None, params: list[click.Parameter] | None = None, **named: Any) -> None:
        named.setdefault("epilog", GLOBAL_OPTIONS)
        super().__init__(name, params=[*(params or []), *global_options(outer=False)], **named)

    def invoke(self, ctx: click.Context) -> Any:
        ctx.ensure_object(App).begin()
        return super().invoke(ctx)


def command(name: str, **named: Any) -> Callable[[Callable[..., Any]], Command]:
    """Decorator: a command whose function takes the :class:`App` first."""

    def decorate(function: Callable[..., Any]) -> Command:
        return click.command(name, cls=Command, **named)(click.pass_obj(function))

    return decorate


def as_json(function: Function) -> Function:
    """Decorator: the option --json, of every command that reads."""
    return click.option("--json", "in_json", is_flag=True, help="One JSON document; see docs/commands.md.")(function)


def guard(context: click.Context, run: Callable[[], Any]) -> Any:
    """Run a command; turn what it raises into messages and exit codes."""
    app = context.ensure_object(App)
    try:
        result = run()
        sys.stdout.flush()
        return result
    except AicoError as error:
        raise Failure(error, context) from error
    except KeyboardInterrupt:
        click.echo(f"Interrupted. {app.kept}", err=True)
        context.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        context.exit(0)
    except OSError as error:
        from aico_crdt.store.environment import translate_os

        path = Path(str(error.filename)) if error.filename is not None else app.store_path
        raise Failure(translate_os(error, path), context) from error
