"""The group of commands: help, errors, exit codes."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
import warnings

import click
import pytest
from click.testing import CliRunner

import stdistill._cli.evaluate
from stdistill._cli import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str) -> None:
    found = main.get_command(click.Context(main), command)
    assert found.help
    assert all(option.help for option in found.params if isinstance(option, click.Option))
    assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from stdistill._cli import main; main(['--help'], standalone_mode=False); "
        "print([m for m in ('numpy', 'anndata', 'torch', 'spatialdata') if m in sys.modules])"
    )
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 5  # 0.1 s of work; the rest is for busy machines
    assert all(command in result.stdout for command in COMMANDS)
    assert result.stdout.strip().endswith("[]")


def test_version() -> None:
    assert "stdistill, version" in CliRunner().invoke(main, ["--version"]).output


def test_as_a_module() -> None:
    """`python -m stdistill` has the commands of the console script, and calls itself as it was called."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "stdistill", *arguments], capture_output=True, text=True)

    helped = run("--help")
    assert helped.returncode == 0
    assert all(f"\n  {command} " in helped.stdout for command in COMMANDS)
    assert helped.stdout.startswith("Usage: python -m stdistill [OPTIONS] COMMAND")
    told = run("--version").stdout.removeprefix("python -m ")
    assert told == CliRunner().invoke(main, ["--version"]).output
    misspelled = run("predictt")
    assert misspelled.returncode == 2
    assert "Try 'python -m stdistill --help' for help." in misspelled.stderr


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @click.argument("error")
    def command(error: str) -> None:
        raise {"key": KeyError, "value": ValueError, "bug": ZeroDivisionError}[error]("What to do instead.")

    monkeypatch.setattr(stdistill._cli.evaluate, "command", command)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("error", ["key", "value"])
def test_an_error_is_one_line(error: str) -> None:
    result = CliRunner().invoke(main, ["evaluate", error])
    assert result.exit_code == 1
    assert result.output == "Error: What to do instead.\n"
    shown = CliRunner().invoke(main, ["--debug", "evaluate", error])
    assert isinstance(shown.exception, KeyError | ValueError)


@pytest.mark.usefixtures("failing")
def test_a_bug_is_not_hidden() -> None:
    assert isinstance(CliRunner().invoke(main, ["evaluate", "bug"]).exception, ZeroDivisionError)


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> None:
        warnings.warn("The encoder is for trying things out.", stacklevel=2)

    monkeypatch.setattr(stdistill._cli.evaluate, "command", command)
    shown = warnings.showwarning
    result = CliRunner().invoke(main, ["evaluate"])
    assert result.exit_code == 0
    assert result.stderr == "Warning: The encoder is for trying things out.\n"
    assert warnings.showwarning is shown


@pytest.mark.parametrize("arguments", [["evaluatee"], ["evaluate"], ["evaluate", "nowhere"], ["--nope"]])
def test_misspelled(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.output


def test_progress_is_logged() -> None:
    CliRunner().invoke(main, ["demo", "--help"])
    assert logging.getLogger("stdistill").isEnabledFor(logging.INFO)
