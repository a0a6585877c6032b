from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from stdistill._cli.options import SeveralNumbers


@click.command(cls=SeveralNumbers)
@click.argument("bundle")
@click.option("--k", "ks", type=int, multiple=True, default=(10, 20))
@click.option("--seed", type=int, default=0)
def command(bundle: str, ks: tuple[int, ...], seed: int) -> None:
    click.echo(f"{bundle} {ks} {seed}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("outs", "outs (10, 20) 0"),
        ("outs --k 5", "outs (5,) 0"),
        ("outs --k 10 20 30", "outs (10, 20, 30) 0"),
        ("outs --k 10 --k 20", "outs (10, 20) 0"),
        ("--k 10 20 outs", "outs (10, 20) 0"),
        ("--k 10 20 --seed 3 outs", "outs (10, 20) 3"),
        ("outs --seed 3 --k=10", "outs (10,) 3"),
        ("20 --k 10", "20 (10,) 0"),
    ],
)
def test_all_numbers_at_once(arguments: str, expected: str) -> None:
    result = CliRunner().invoke(command, arguments.split())
    assert result.output == f"{expected}\n"


@pytest.mark.parametrize("arguments", ["outs --k", "outs --k ten", "outs --k 10 twenty"])
def test_no_numbers(arguments: str) -> None:
    assert CliRunner().invoke(command, arguments.split()).exit_code == 2
