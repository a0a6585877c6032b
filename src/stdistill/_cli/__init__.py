"""The command ``stdistill``."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from typing import Any

import click

COMMANDS = (
    "demo",
    "run",
    "evaluate",
    "decompose",
    "align",
    "predict",
    "report",
    "slide",
    "nuclei",
    "encoders",
    "doctor",
)
"""Each is the function `command` of the module of its name; they import click alone until they are run."""
ERRORS = (ValueError, LookupError, TypeError, OSError, RuntimeError, ImportError, MemoryError)
"""What the library raises for input that it cannot work with."""


class _Commands(click.Group):
    """Loads a command when it is asked for, and shows what the library raises as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"stdistill._cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):  # RuntimeErrors, by which click ends a program
            raise
        except ERRORS as error:
            if ctx.params["debug"]:
                raise
            message = error.args[0] if isinstance(error, KeyError) else error  # a KeyError puts itself in quotes
            raise click.ClickException(str(message)) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show what a warning says; the line of code that it names is of no use here."""
    click.echo(f"Warning: {message}", err=True)


@click.group("stdistill", cls=_Commands)
@click.option("--debug", is_flag=True, help="Show where in the code an error arose.")
@click.version_option(package_name="stdistill")
def main(debug: bool) -> None:
    """Distil spatial transcriptomics into histology.

    Exit codes: 0 when all went well, 1 for an error that the message explains, 2 for a command that was misspelled.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("stdistill").setLevel(logging.INFO)
