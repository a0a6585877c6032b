"""``stdistill doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stdistill._cli.text import entry

if TYPE_CHECKING:
    from stdistill._cli.machine.diagnosis import Diagnosis


@click.command()
@click.option("--online", is_flag=True, help="Ask the Hugging Face hub which encoders it would give.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, online: bool, as_json: bool) -> None:
    """Say what a run would find on this machine.

    Versions, devices, access to encoders, free disk. The exit code is 1 when something would stop a run: a package that
    is missing, too old or cannot be loaded; a disk that is full or cannot be written to. The message says what to do.
    Without --online the network is not asked.
    """
    import json

    from stdistill._cli.machine.diagnosis import diagnose

    found = diagnose(online=online)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else _as_text(found))
    if found.problems:
        ctx.exit(1)


def _as_text(found: Diagnosis) -> str:
    from stdistill._cli.machine.diagnosis import GIB

    versions = {name: version or "missing" for name, version in found.versions.items()}
    memory = "" if found.memory_bytes is None else f", {found.memory_bytes / GIB:.0f} GiB memory"
    encoders = found.encoders
    lines = [
        ("stdistill", f"{versions.pop('stdistill')}, Python {versions.pop('python')}, {found.platform}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("machine", f"{found.cpu_cores} CPU cores{memory}"),
        *(
            ("device", f"{each['kind']}: {each['name']}, {each['memory_bytes'] / GIB:.0f} GiB")
            for each in found.devices
        ),
        ("threads", ", ".join(f"{name} {number}" for name, number in found.threads.items())),
    ]
    if encoders:
        token = "a token is there" if encoders["token"] else "no token is logged in"
        lines.append(("encoders", f"at hand: {', '.join(encoders['at_hand'])}"))
        lines.append(("", f"Hugging Face hub: {token}{', HF_HUB_OFFLINE is set' if encoders['offline'] else ''}"))
        lines += [
            ("", f"{key}: {', '.join(encoders[key]) or 'none'}") for key in ("granted", "refused") if key in encoders
        ]
    lines += [
        ("disk", f"{each['free_bytes'] / GIB:.1f} GiB free, {each['what']} ({each['path']})") for each in found.disk
    ]
    lines += [("note", note) for note in found.notes]
    lines += [("problem", problem) for problem in found.problems]
    n_problems = len(found.problems)
    end = "Nothing here would stop a run." if not n_problems else f"{n_problems} of these would stop a run."
    return "\n".join([*(entry(name, text) for name, text in lines), "", end])
