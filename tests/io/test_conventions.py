"""A written SpatialData opens in other programs with the colours of its niches."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import spatialdata
from matplotlib.colors import to_rgba
from spatialdata.models import get_table_keys

import stdistill as sd
from stdistill._table.niches import write_niches

COLORS = ["#e41a1c", "#377eb8", "#4daf4a", "#984ea3"]


@pytest.fixture(scope="module")
def written(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> spatialdata.SpatialData:
    slide = sd.pp.read_xenium(bundle)
    logits = np.eye(4)[np.arange(800) % 3] * 3.0  # nobody is in the last niche
    logits[5] = np.nan
    write_niches(slide["table"], "student", logits, niches=["0", "1", "2", "3"], colors=COLORS)
    path = tmp_path_factory.mktemp("written") / "slide.zarr"
    slide.write(path)
    return spatialdata.read_zarr(path)


def test_what_napari_expects(written: spatialdata.SpatialData) -> None:
    """An array with a colour for each category, also for those without cells; ids of the type of the shapes' index."""
    table = written["table"]
    colors = table.uns["student_niche_colors"]
    assert isinstance(colors, np.ndarray)
    assert colors.tolist() == COLORS
    assert len(table.obs["student_niche"].cat.categories) == len(colors)
    region, region_key, instance_key = get_table_keys(table)
    assert set(table.obs[region_key]) == {region}
    assert table.obs[region_key].dtype == "category"
    assert written[region].index.equals(table.obs.set_index(instance_key).index.rename(written[region].index.name))


def test_spatialdata_plot_draws_the_niches_in_their_colors(written: spatialdata.SpatialData) -> None:
    import spatialdata_plot  # noqa: F401

    figure, ax = plt.subplots()
    drawn = written.pl.render_images("he").pl.render_shapes("cell_circles", color="student_niche")
    drawn.pl.show(coordinate_systems="global", ax=ax)
    faces = max((each.get_facecolor() for each in ax.collections), key=len)  # the others are the legend's
    expected = np.array([to_rgba(COLORS[i % 3]) for i in range(800) if i != 5])
    for color in np.unique(expected, axis=0):
        assert np.isclose(faces, color, atol=0.01).all(axis=1).sum() == (expected == color).all(axis=1).sum()
    assert len(faces) == 800
    assert len(ax.images) == 1
    plt.close(figure)
