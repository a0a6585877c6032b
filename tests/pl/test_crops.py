from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from spatialdata import SpatialData

import stdistill as sd
from stdistill._table.records import write_record


@pytest.fixture(scope="module")
def slide(bundle: Path) -> SpatialData:
    return sd.pp.read_xenium(bundle)


def test_a_row_for_each_niche(slide: SpatialData) -> None:
    _, ax = plt.subplots()
    assert sd.pl.crops(slide, niche_key="cell_type", n_crops=3, crop_px=64, ax=ax) is ax
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == list(slide["table"].obs["cell_type"].cat.categories)
    (picture,) = ax.images
    assert picture.get_array().shape == (len(rows) * 68, 3 * 68, 3)
    assert ax.get_title() == "cell_type"


def test_cells_are_at_the_crosses(slide: SpatialData) -> None:
    cells = slide["table"].obs_names[:2]
    _, ax = plt.subplots()
    sd.pl.crops(slide, cells=cells, crop_px=64, ax=ax)
    picture = ax.images[0].get_array()
    crops = sd.get.he_crops(slide, cells=cells, crop_px=64)
    np.testing.assert_array_equal(picture[:64, 68:132], crops[1])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [31.5, 99.5])


def test_crops_of_other_features(slide: SpatialData) -> None:
    table = slide["table"]
    table.obsm["X_uni"] = np.zeros((table.n_obs, 1), dtype=np.float16)
    write_record(table, "embed_he", key_added="X_uni", crop_px=48, native=True)
    ax = sd.pl.crops(slide, cells=table.obs_names[:1], use_rep="X_uni", show=False)
    assert ax.images[0].get_array().shape == (52, 52, 3)
    del table.obsm["X_uni"]
    with pytest.raises(KeyError, match="use_rep='X_uni' is not features"):
        sd.pl.crops(slide, cells=table.obs_names[:1], use_rep="X_uni")


def test_given_cells_lie_in_the_rows_of_their_niches(slide: SpatialData) -> None:
    types = slide["table"].obs["cell_type"]
    first, second = types.cat.categories[:2]
    cells = [*types.index[types == second][:2], *types.index[types == first][:1]]
    ax = sd.pl.crops(slide, cells=cells, niche_key="cell_type", crop_px=64, show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == [first, second]
    sheet = ax.images[0].get_array()
    pictures = sd.get.he_crops(slide, cells=cells, crop_px=64)
    for (row, column), picture in zip([(1, 0), (1, 1), (0, 0)], pictures, strict=True):
        np.testing.assert_array_equal(sheet[row * 68 : row * 68 + 64, column * 68 : column * 68 + 64], picture)
    assert (sheet[:68, 68:] == 255).all()  # the first niche has one cell


def test_given_cells_without_a_niche(slide: SpatialData) -> None:
    table = slide["table"]
    table.obs["some"] = table.obs["cell_type"].where(np.arange(table.n_obs) != 5)
    ax = sd.pl.crops(slide, cells=table.obs_names[4:6], niche_key="some", crop_px=32, show=False)
    assert len(ax.lines[0].get_xdata()) == 1
    with pytest.raises(ValueError, match="no cell to draw: none lies on the image, or none has a niche"):
        sd.pl.crops(slide, cells=table.obs_names[5:6], niche_key="some", crop_px=32)
    del table.obs["some"]


def test_the_same_cells_for_a_seed(slide: SpatialData) -> None:
    pictures = []
    for seed in (0, 0, 1):
        _, ax = plt.subplots()
        sd.pl.crops(slide, n_crops=4, crop_px=32, seed=seed, ax=ax)
        pictures.append(np.asarray(ax.images[0].get_array()))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_bad_input(slide: SpatialData) -> None:
    with pytest.raises(KeyError, match=r"niche_key='niche'.*'cell_type'"):
        sd.pl.crops(slide, niche_key="niche")
    with pytest.raises(TypeError, match="categorical"):
        sd.pl.crops(slide, niche_key="cell_area")
    with pytest.raises(ValueError, match="n_crops"):
        sd.pl.crops(slide, n_crops=0)
    with pytest.raises(KeyError, match="1 of the cells are not in the table, such as 'nobody'"):
        sd.pl.crops(slide, cells=["nobody"])
    with pytest.raises(ValueError, match="There is no cell to draw"):
        sd.pl.crops(slide, cells=[])
    with pytest.raises(TypeError, match="an AnnData holds none"):
        sd.pl.crops(slide["table"])
    assert not plt.get_fignums()
