"""The public names, their parameters and the commands: what users' code relies on changes only with this list."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import click

import stdistill as sd
from stdistill._cli import main

STORED = json.loads((Path(__file__).parent / "stored" / "public.json").read_text())


def parameters(function: object) -> dict[str, str | None]:
    """The names and the defaults, in which `None` stands for no default."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    given = {name: each for name, each in signature.parameters.items() if name != "self"}
    return {name: None if each.default is each.empty else repr(each.default) for name, each in given.items()}


def test_python() -> None:
    found = {}
    for namespace in ("pp", "tl", "pl", "get", "io", "models", "encoders", "datasets", "results"):
        for name in getattr(sd, namespace).__all__:
            found[f"{namespace}.{name}"] = parameters(getattr(getattr(sd, namespace), name))
    methods = dict.fromkeys((sd.models.NicheModel, sd.models.CompositionModel), ("predict",))
    methods[sd.models.AlignmentModel] = ("embed_he", "embed_expression", "embed_cells")
    for model, names in methods.items():
        for name in (*names, "save", "load", "push_to_hub", "from_pretrained"):
            found[f"models.{model.__name__}.{name}"] = parameters(getattr(model, name))
    assert found == STORED["python"]


def test_commands() -> None:
    context = click.Context(main)
    found = {}
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        options = [each.opts if isinstance(each, click.Option) else [each.name.upper()] for each in command.params]
        found[name] = sorted(option for names in options for option in names)
    assert found == STORED["commands"]
