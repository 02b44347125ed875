"""What every entry point shares: errors as one line with exit code 2, and `--debug` for the traceback."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from pipeline.errors import FacetError
from pipeline.redact import redact

config_option = click.option("--config", metavar="FILE", help="YAML configuration, or a name: cluster, ...")
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Override one field of the configuration; repeatable.",
)
codes_option = click.option(
    "--codes",
    metavar="CODE,...",
    callback=lambda _, __, text: _codes(text),
    help="Error codes, such as timeout,crashed; all: every failure. no_face is a code, but no failure.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

Function = TypeVar("Function", bound=Callable[..., Any])


def options(*added: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Makes one decorator of several options and arguments, in the order of the help."""

    def decorate(function: Function) -> Function:
        for option in reversed(added):
            function = option(function)
        return function

    return decorate


on_run = options(click.argument("output"), config_option, set_option)
"""What every command on the folder of a run takes."""


def _codes(text: str | None) -> list[str] | None:
    if text is None:
        return None
    codes = [code.strip() for code in text.split(",") if code.strip()]
    if not codes:
        raise click.BadParameter("give at least one code.")
    return codes


def run(command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Runs a command as a program: `facet` itself, or one job by `python -m jobs.NAME`.

    An expected error (`FacetError`) becomes one line on stderr and exit code 2. `--debug`, anywhere on
    the command line, shows its traceback instead.
    """
    _open_streams()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        command.main([argument for argument in given if argument != "--debug"])
    except FacetError as error:
        if "--debug" in given:
            # Libraries write whole URLs into their messages.
            click.echo(redact(traceback.format_exc()), err=True)
            sys.exit(2)
        from pipeline.run import logs  # here, since it takes a moment

        logs.complain(error)
        sys.exit(2)


def _open_streams() -> None:
    """Opens what of the standard streams is closed, as services and cron jobs leave them.

    Else the next file that is opened takes their numbers, and messages are written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
