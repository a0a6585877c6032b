"""Execute the notebooks and keep their outputs: ``python notebooks/execute.py [name ...]``."""

from __future__ import annotations

import argparse
import base64
import io
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
"""Neither progress bars nor other packages' warnings belong on a page, and nothing is downloaded."""


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder of its own; raise when a cell does.

    Parameters
    ----------
    path
        The notebook.
    folder
        Where it runs, and writes its files.

    Returns
    -------
    The notebook with outputs, without anything that differs from run to run.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, **QUIET}
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        startup_timeout=300,
    )
    client.execute(env=environment)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_shrink(output) for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def _shrink(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Keep 128 colours of a figure, which takes less room; an octree merges no rare one, such as a short bar's."""
    data = output.get("data", {})
    if "image/png" in data:
        image = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        buffer = io.BytesIO()
        image.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            buffer, "png", optimize=True
        )
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return output


def main() -> None:
    """Execute the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="without .ipynb; by default all")
    names = parser.parse_args().names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
