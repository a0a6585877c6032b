"""Pages from templates; whatever a name holds, it stays text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

ASSETS = files("stdistill._report") / "assets"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stdistill._report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda share: f"{100 * share:.3g} %"
    return environment


def render(template: str, **content: Any) -> bytes:
    """Fill a template; what it needs of `ASSETS` it is given by name."""
    return _environment().get_template(template).render(content).encode()


def read_asset(name: str) -> str:
    """Read a style sheet or script of the package."""
    return (ASSETS / name).read_text(encoding="utf-8")


def link_assets(names: Mapping[str, str], *, single_file: bool) -> dict[str, Any]:
    """Say where a page finds its style sheet and scripts: their addresses, or, in a single file, their text."""
    if single_file:
        # A script ends at the first closing tag, wherever it stands.
        return {name: {"text": read_asset(name).replace("</script", "<\\/script")} for name in names}
    return {name: {"address": address} for name, address in names.items()}
