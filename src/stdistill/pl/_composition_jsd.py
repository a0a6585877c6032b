"""Divergences of the niches of methods from a reference's in their cell types, and of random pairings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import find_colormap
from stdistill._drawing.matrix import draw_matrix, matrix_size
from stdistill._support.checks import as_names, check_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stdistill._measures.composition import CompositionJSD

OUTLINE = "#d62728"


def composition_jsd(
    result: CompositionJSD,
    *,
    keys: str | Sequence[str] | None = None,
    cmap: str = "viridis",
    title: str | Sequence[str] | None = None,
    ax: Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> AxesOrList | None:
    """Draw the divergences between niches, and where the pairing lies among random ones; two panels per method.

    On the left the Jensen-Shannon divergence of every niche of the reference from every niche of the method, the pairs
    outlined; on the right the weighted mean of the pairing beside those of the random pairings.

    Parameters
    ----------
    result
        What :func:`stdistill.tl.composition_jsd` returned.
    keys
        Methods to draw, by default all.
    cmap
        Colour map of the matrices.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`; two for each method.

    Returns
    -------
    `None` when the figure was shown; else a list of the axes, two for each method.

    Raises
    ------
    KeyError
        When a method is not in the result, or there is no such colour map.
    TypeError
        When `result` is something else.
    ValueError
        When `keys` is empty, or there are fewer axes or titles than needed.

    Notes
    -----
    The comparison is that of Hizmi et al. 2026, section 5.5; the picture is our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> obs = pd.DataFrame(
    ...     {"teacher_niche": list("aabb"), "student_niche": list("2211"), "cell_type": list("TTTB")}, dtype="category"
    ... )
    >>> obs.index = obs.index.astype(str)
    >>> result = sd.tl.composition_jsd(ad.AnnData(np.zeros((4, 1)), obs=obs), cell_type_key="cell_type")
    >>> axes = sd.pl.composition_jsd(result, save="composition_jsd.png")
    """
    from stdistill._measures.composition import CompositionJSD, largest_divergence

    if not isinstance(result, CompositionJSD):
        msg = f"Expected what sd.tl.composition_jsd returns, found {type(result).__name__}."
        raise TypeError(msg)
    there = list(result.divergences)
    chosen = as_names(there if keys is None else keys, "keys", f"methods of the result, which has {there}")
    for key in chosen:
        check_key(key, result.divergences, "a method of the result", argument="keys")
    colormap = find_colormap(cmap)
    means = result.summary.set_index("method")["jsd"].to_dict()
    shares = result.summary.set_index("method")["share_random"].to_dict()
    defaults = [text for key in chosen for text in (key, _verdict(means[key], shares[key], len(result.random[key])))]
    titles = make_titles(title, defaults)
    widths, heights = zip(*(matrix_size(result.divergences[key]) for key in chosen), strict=True)
    axes = make_axes(2 * len(chosen), ax=ax, panel_size=(max(4.5, *widths), max(3.2, *heights)), ncols=2)
    highest = largest_divergence(result.base)
    for number, key in enumerate(chosen):
        left, right = axes[2 * number : 2 * number + 2]
        matrix = result.divergences[key]
        label = f"divergence (base {result.base:g})"
        draw_matrix(left, matrix, cmap=colormap, label=label, highest=highest, title=titles[2 * number])
        _outline_pairs(left, matrix, result.niches[result.niches["method"] == key])
        right.hist(result.random[key], bins=50, color="#94a4a2")
        right.axvline(means[key], color=OUTLINE)
        right.set(xlabel="weighted mean divergence", ylabel="random pairings", title=titles[2 * number + 1])
        right.set_xlim(left=0)
        right.spines[["top", "right"]].set_visible(False)
    return finish(axes, ax=ax, save=save, show=show)


def _verdict(mean: float, share: float, n_random: int) -> str:
    return f"{mean:.3f}, reached by {100 * share:.3g} %\nof {n_random:,} random pairings"


def _outline_pairs(ax: Axes, matrix: pd.DataFrame, pairs: pd.DataFrame) -> None:
    from matplotlib.patches import Rectangle

    paired = pairs[pairs["niche"].notna()]
    rows = matrix.index.get_indexer(pd.Index(paired["reference_niche"]))
    columns = matrix.columns.get_indexer(pd.Index(paired["niche"]))
    for row, column in zip(rows, columns, strict=True):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=OUTLINE, linewidth=1.2))
