"""``stdistill encoders``."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """List the encoders of the H&E, or check access to one.

    Without NAME, the encoders that have a name here; "at hand" are those whose weights are on this machine or that need
    none, and the network is not asked. With NAME, one of these or a name of timm: whether its weights can be had, which
    the Hugging Face hub is asked where they are not on this machine. Nothing is downloaded. "auto" stands for UNI2-h.

    The exit code is 1 when the encoder cannot be had; the message says what to do.
    """
    if name is None:
        rows = _list()
        click.echo(json.dumps(rows, indent=2) if as_json else _as_table(rows))
        return
    encoder = _check(name)
    click.echo(json.dumps(encoder, indent=2, ensure_ascii=False) if as_json else _as_text(encoder))
    if not encoder["available"]:
        ctx.exit(1)


def _list() -> list[dict[str, Any]]:
    import stdistill as sd
    from stdistill.encoders._access import is_at_hand

    rows: list[dict[str, Any]] = json.loads(sd.encoders.list().reset_index().to_json(orient="records"))
    return [{**row, "at_hand": is_at_hand(sd.encoders.get(row["name"], trust_remote_code=True))} for row in rows]


def _check(name: str) -> dict[str, Any]:
    """Describe one encoder, and say whether it can be had."""
    import stdistill as sd
    from stdistill.encoders._access import check, is_at_hand
    from stdistill.encoders._registry import AUTO, PAPERS

    encoder = sd.encoders.get(PAPERS if name == AUTO else name, trust_remote_code=True)  # none is run
    fields = ("name", "dim", "input_px", "licence", "commercial", "gated", "n_params", "source", "reference")
    found = {field: getattr(encoder, field) for field in fields} | {"at_hand": is_at_hand(encoder)}
    try:
        revision = check(encoder)
    except OSError as error:
        return found | {"available": False, "reason": str(error)}
    return found | {"available": True, "revision": revision}


def _as_table(rows: list[dict[str, Any]]) -> str:
    columns = {
        "name": "name",
        "dim": "features",
        "input_px": "input px",
        "licence": "licence",
        "gated": "gated",
        "at_hand": "at hand",
    }
    missing = {"input_px": "any"}
    cells = [[*columns.values()], *([_say(row[key], missing.get(key, "?")) for key in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(
        [*lines, "", "`stdistill encoders NAME` checks access to one. Every name of timm will do as well."]
    )


def _as_text(encoder: dict[str, Any]) -> str:
    """Describe an encoder in lines of a name and a value, and say where its weights are or how to get them."""
    if not encoder["available"]:
        access = encoder["reason"]
    elif encoder["source"] is None:
        access = "It is built in and needs no weights."
    elif encoder["at_hand"]:
        access = "Its weights are on this machine."
    else:
        access = "Its weights can be had: they are downloaded when they are first used."
    size = encoder["n_params"]
    lines = {
        "name": encoder["name"],
        "features": _say(encoder["dim"]),
        "input px": _say(encoder["input_px"], "any"),
        "parameters": "?" if size is None else f"{size / 1e6:,.0f} million",
        "licence": encoder["licence"],
        "commercial": _say(encoder["commercial"]),
        "gated": _say(encoder["gated"]),
        "source": encoder["source"] or "built in",
        "revision": encoder.get("revision"),
    }
    return "\n".join([*(f"{key:12}{value}" for key, value in lines.items() if value is not None), "", access])


def _say(value: object, missing: str = "?") -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return missing if value is None else str(value)
