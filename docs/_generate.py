"""Pages of the documentation that follow from the code: the API, encoders, errors, the notebooks."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

NAMESPACES = {
    "pp": "Preprocessing",
    "tl": "Tools",
    "pl": "Plots",
    "get": "Reading results",
    "io": "Files for other programs",
    "models": "Models",
    "encoders": "Encoders",
    "datasets": "Datasets",
}

KNOWN_TO_CASES = (
    "Each of these is raised by the tests. `folder` is a new, empty folder, `outs` a Xenium bundle, `png` an H&E as "
    "PNG, `slide` a SpatialData with an H&E, `cells` a table with features, neighbourhoods, a split and a teacher, "
    "`student` a saved student."
)


def write_api(folder: Path) -> None:
    """Write a page per namespace that lists all of its public names."""
    folder.mkdir(parents=True, exist_ok=True)
    public = set()
    for namespace, title in NAMESPACES.items():
        module = import_module(f"stdistill.{namespace}")
        public |= {f"stdistill.{namespace}.{name}" for name in module.__all__}
        heading = f"{title}: ``{namespace}``"
        lines = [
            heading,
            "=" * len(heading),
            "",
            str(module.__doc__),
            "",
            f".. currentmodule:: stdistill.{namespace}",
            "",
            ".. autosummary::",
            "   :toctree: .",
            "   :nosignatures:",
            "",
            *(f"   {name}" for name in module.__all__),
        ]
        _write(folder / f"{namespace}.rst", "\n".join(lines) + "\n")
    for page in folder.glob("stdistill.*.rst"):  # autosummary's, of names that are gone
        if page.stem not in public:
            page.unlink()


def write_encoders(folder: Path) -> None:
    """Write the table of encoders, as ``sd.encoders.list()`` has it."""
    from stdistill import encoders

    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "| name | features | input, px | licence | commercial use | gated | weights |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in encoders.list().iterrows():
        link = f"[{name}]({row['reference']})" if str(row["reference"]).startswith("http") else name
        cells = [link, row["dim"], row["input_px"], row["licence"], row["commercial"], row["gated"], row["source"]]
        lines.append("| " + " | ".join(_say(cell) for cell in cells) + " |")
    _write(folder / "encoders.md", "\n".join(lines) + "\n")


def write_errors(catalogue: Path, folder: Path) -> None:
    """Write the page of errors: what is met most, and what each function and command refuses."""
    found = tomllib.loads(catalogue.read_text(encoding="utf-8"))
    lines: list[str] = []
    for part in dict.fromkeys(each["part"] for each in found["message"]):
        lines += [f"## {part}", ""]
        for each in found["message"]:
            if each["part"] == part:
                lines += [f"**{each['said']}**", ": " + "\n  ".join(each["help"].splitlines()), ""]
    lines += ["## By function and command", "", KNOWN_TO_CASES, ""]
    cases: dict[str, list[dict[str, Any]]] = {}
    for case in found["case"]:
        cases.setdefault(_subject(case), []).append(case)
    for subject, own in cases.items():
        lines += [f"### `{subject}`", "", "| what | error | says |", "|---|---|---|"]
        for case in own:
            calls = [part for part in (case.get("given"), case.get("call"), case.get("command")) if part]
            called = "<br>".join(_code(part) for part in calls)
            said = "<br>".join(f"… {_plain(words)} …" for words in case["said"])
            lines.append(f"| {called} | {case.get('error') or 'exit code ' + str(case['exit_code'])} | {said} |")
        lines.append("")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "errors.md", "\n".join(lines))


def copy_notebooks(source: Path, target: Path) -> None:
    """Copy the notebooks to where the documentation shows them, their links with them."""
    for path in source.glob("*.ipynb"):
        _write(target / path.name, path.read_text(encoding="utf-8").replace("](../docs/", "](../"))


def _subject(case: dict[str, Any]) -> str:
    """Return the function or the command that a case is about, the last that is called."""
    if "command" in case:
        return f"stdistill {case['command'].split()[0]}"
    namespace, name = re.findall(r"sd\.(\w+)\.(\w+)", case["call"])[0]
    return f"sd.{namespace}.{name}"


def _code(text: str) -> str:
    return f"`` {text} ``".replace("|", "\\|").replace("\n", "\\n")


def _plain(text: str) -> str:
    """Keep Markdown from reading anything into a message."""
    return re.sub(r"([\\`*_\[\]<>|$~])", r"\\\1", text)


def _say(value: object) -> str:
    if pd.isna(value):
        return ""
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _write(path: Path, text: str) -> None:
    """Write only what has changed, so that Sphinx rebuilds only that."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
