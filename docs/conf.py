"""Build the documentation: ``sphinx-build -W --keep-going docs docs/_build/html``."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import click
from sphinx.application import Sphinx

from stdistill._cli import main

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from _generate import copy_notebooks, write_api, write_encoders, write_errors  # noqa: E402

project = "stdistill"
author = "The stdistill authors"
release = metadata.version("stdistill")

# Pages that follow from the code are written before Sphinx looks for pages.
write_api(HERE / "reference" / "generated")
write_encoders(HERE / "reference" / "generated")
write_errors(HERE / "reference" / "errors.toml", HERE / "reference" / "generated")
copy_notebooks(HERE.parent / "notebooks", HERE / "tutorials")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "reference/generated/encoders.md", "reference/generated/errors.md"]
templates_path = ["_templates"]

# Every reference to a public name of this package must be found. Those to other packages are not looked up: that would
# need the network.
nitpicky = True
FILES = "alignment|composition|expression|feature_card|formats|niche|saved|sharing|usual"
PRIVATE = rf"stdistill\.(_|\w+\._|models\.({FILES})\.).*"
nitpick_ignore_regex = [(r"py:.*", rf"(?!stdistill\.).*|{PRIVATE}")]

autosummary_generate = True
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "stdistill"
html_static_path = ["_static"]
html_theme_options = {"show_toc_level": 2, "navbar_persistent": []}


def escape_stars(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Keep the ``*`` of file patterns in help texts from being read as emphasis."""
    lines[:] = [re.sub(r"(?<!\*)\*(?!\*)", r"\\*", line) for line in lines]


def name_commands() -> None:
    """Give each command the name that it is called by; sphinx-click takes its function's."""
    context = click.Context(main)
    for name in main.list_commands(context):
        if (command := main.get_command(context, name)) is not None:
            command.name = name


def setup(app: Sphinx) -> None:
    """Connect the above."""
    name_commands()
    app.connect("sphinx-click-process-options", escape_stars)
