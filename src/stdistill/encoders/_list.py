"""The table of encoders, in a module of its own because its name hides Python's `list`."""

from __future__ import annotations

import pandas as pd

from stdistill.encoders._registry import registered


def list() -> pd.DataFrame:
    """List the encoders that have a name here.

    Beyond these, :func:`stdistill.encoders.get` takes every name of timm (``timm.list_pretrained()``).

    Returns
    -------
    One row per encoder, indexed by name:

    ``dim``
        Features per crop.
    ``input_px``
        Side of the crops that it takes, in pixels; missing: any.
    ``precision``
        Arithmetic on a GPU.
    ``licence``, ``commercial``
        Licence of the weights, and whether it allows commercial use; missing: unknown.
    ``gated``
        Whether access has to be asked for; missing: sources disagree.
    ``n_params``
        Number of parameters.
    ``pooling``, ``source``, ``reference``
        What the features are, where the weights are, and where they are described.

    Notes
    -----
    Licences, gates and recommended precisions are those that LazySlide and TRIDENT state for each encoder; the page of
    the weights (``source``) is what counts.

    Examples
    --------
    >>> import stdistill as sd
    >>> table = sd.encoders.list()
    >>> int(table.loc["uni2-h", "dim"]), table.loc["uni2-h", "licence"]
    (1536, 'CC-BY-NC-ND-4.0')
    """
    types = {
        "dim": "Int64",
        "input_px": "Int64",
        "precision": "string",
        "licence": "string",
        "commercial": "boolean",
        "gated": "boolean",
        "n_params": "Int64",
        "pooling": "string",
        "source": "string",
        "reference": "string",
    }
    rows = {name: [getattr(encoder, field) for field in types] for name, encoder in registered().items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*types], dtype=object)
    return table.rename_axis("name").astype(types)
