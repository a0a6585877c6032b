from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from scipy.stats import norm

import stdistill as sd
from stdistill._measures.abundances.moran import Colocalization

SIDE = 20
N = SIDE**2


def grid(step: float = 100.0) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2) * step


def table(values: np.ndarray, centers: np.ndarray, **obs: object) -> ad.AnnData:
    values = np.asarray(values, dtype=np.float32)
    index = pd.RangeIndex(len(values)).astype(str)
    adata = ad.AnnData(np.zeros((len(values), 1)), obs=pd.DataFrame(obs, index=index), obsm={"spatial": centers})
    adata.obsm["abundance"] = values
    adata.uns["stdistill"] = {"abundances": {"types": [f"type {i}" for i in range(values.shape[1])]}}
    return adata


def smooth_types(n_types: int, seed: int, sigma: float = 1.5) -> np.ndarray:
    """Fields that vary slowly, of which the first two have a part in common."""
    noise = np.random.default_rng(seed).normal(size=(n_types, SIDE, SIDE))
    fields = np.stack([gaussian_filter(each, sigma) for each in noise]).reshape(n_types, -1).T
    fields[:, 1] += 0.5 * fields[:, 0]
    return np.exp(fields / fields.std())


def dense_weights(centers: np.ndarray, length: float, libraries: np.ndarray, own: bool, cutoff: float) -> np.ndarray:
    """Weights that sum to n."""
    weights = np.exp(-0.5 * cdist(centers, centers, "sqeuclidean") / length**2)
    weights[(weights < cutoff) | (libraries[:, None] != libraries)] = 0
    if not own:
        np.fill_diagonal(weights, 0)
    return weights * len(centers) / weights.sum()


def dense_r(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32).astype(np.float64)
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    return z.T @ weights @ z / len(z)


@pytest.fixture
def spots() -> ad.AnnData:
    return table(smooth_types(5, 0), grid())


def test_by_hand() -> None:
    centers = np.array([[0, 0], [100, 0], [200, 0]])
    length = 100 / np.sqrt(2 * np.log(2))  # neighbours weigh 1/2, the ends 1/16 and thus nothing
    result = sd.tl.colocalization(table([[0, 1], [1, 0], [2, 0]], centers), key="abundance", length_um=length)
    assert result.r.loc["type 0", "type 0"] == pytest.approx(0.6)
    assert result.r.loc["type 1", "type 1"] == pytest.approx(0.5)
    assert result.r.loc["type 0", "type 1"] == pytest.approx(-0.3 * np.sqrt(3))
    assert result.z.loc["type 1", "type 0"] == pytest.approx(-0.3 * np.sqrt(3) / np.sqrt(0.1))
    assert result.p.loc["type 1", "type 0"] == pytest.approx(2 * norm.cdf(-0.3 * np.sqrt(30)))
    assert (result.length_um, result.cutoff, result.n_rows) == (length, 0.2, 3)


def test_spots_by_default(spots: ad.AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stdistill"):
        result = sd.tl.colocalization(spots, key="abundance")
    assert "taken for spots (each counts itself): median spacing 100.0 µm, length 150.0 µm" in caplog.text
    expected = dense_r(spots.obsm["abundance"], dense_weights(grid(), 150, np.zeros(N), own=True, cutoff=0.2))
    np.testing.assert_allclose(result.r, expected)
    types = [f"type {i}" for i in range(5)]
    for frame in (result.r, result.z, result.p, result.q):
        assert frame.index.tolist() == frame.columns.tolist() == types
        np.testing.assert_array_equal(frame, frame.T)
    assert np.isnan(np.stack([np.diag(frame) for frame in (result.z, result.p, result.q)])).all()
    pairs = np.triu_indices(5, 1)
    assert (result.q.to_numpy()[pairs] >= result.p.to_numpy()[pairs]).all()
    assert result.r.loc["type 0", "type 1"] == result.r.to_numpy()[pairs].max()


def test_cells_by_default(caplog: pytest.LogCaptureFixture) -> None:
    values, centers = smooth_types(3, 1), grid(12.0)
    with caplog.at_level(logging.INFO, "stdistill"):
        result = sd.tl.colocalization(table(values, centers), key="abundance")
    assert "taken for cells: median spacing 12.0 µm, length 50.0 µm" in caplog.text
    expected = dense_r(values, dense_weights(centers, 50, np.zeros(N), own=False, cutoff=0.2))
    np.testing.assert_allclose(result.r, expected)


def test_as_esda_has_it(spots: ad.AnnData) -> None:
    esda = pytest.importorskip("esda")
    weights_of = pytest.importorskip("libpysal.weights")
    from scipy.sparse import csr_array

    dense = dense_weights(grid(), 170, np.zeros(N), own=True, cutoff=0.1)
    weights = weights_of.WSP(csr_array(dense)).to_W(silence_warnings=True)
    result = sd.tl.colocalization(spots, key="abundance", length_um=170, cutoff=0.1)
    values = spots.obsm["abundance"].astype(np.float64)
    for i in range(5):
        for j in range(5):
            # By default it would make the rows of the weights sum to 1 each, which is another statistic.
            peer = esda.Moran_BV(values[:, i], values[:, j], weights, transformation="o", permutations=0)
            assert result.r.iloc[i, j] == pytest.approx(peer.I, abs=1e-12)


@pytest.mark.parametrize("own", [True, False])
def test_z_and_p_are_those_of_permutations(own: bool) -> None:
    """Both types shuffled over the rows, each on its own, a thousand times, on types that vary slowly."""
    centers = grid(100.0 if own else 25.0)
    values = smooth_types(6, 2, sigma=0.6)
    values[:, 4:] = np.random.default_rng(3).gamma(1, 1, (N, 2))
    result = sd.tl.colocalization(table(values, centers), key="abundance", length_um=1.5 * centers[1, 0])
    weights = dense_weights(centers, 1.5 * centers[1, 0], np.zeros(N), own, cutoff=0.2)
    np.testing.assert_allclose(result.r, dense_r(values, weights), atol=1e-7)
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    rng = np.random.default_rng(4)
    shuffled = np.empty((1000, 6, 6))
    for each in shuffled:
        one, other = rng.permuted(z, axis=0), rng.permuted(z, axis=0)
        each[:] = one.T @ weights @ other / N
    pairs = np.triu_indices(6, 1)
    r = result.r.to_numpy()[pairs]
    found = shuffled[:, *pairs]
    # A standard deviation of 1,000 values is right to 1 / sqrt(2000).
    np.testing.assert_allclose(
        result.z.to_numpy()[pairs], (r - found.mean(axis=0)) / found.std(axis=0), rtol=0.12, atol=0.12
    )
    p = result.p.to_numpy()[pairs]
    reached = (np.abs(found) >= np.abs(r)).mean(axis=0)
    assert (np.abs(reached - p) < 4 * np.sqrt(p * (1 - p) / 1000) + 0.01).all()
    assert (p < 1e-3).any()
    assert (p > 0.1).any()


def test_slowly_varying_types_exceed_chance_easily() -> None:
    """What the documentation warns of: types in patches that know nothing of each other are often significant."""
    share = {}
    for name, sigma in (("scattered", 0.0), ("in patches", 2.0)):
        p = []
        for seed in range(10):
            values = smooth_types(12, seed, sigma)[:, 2:]
            p.append(sd.tl.colocalization(table(values, grid()), key="abundance").p.to_numpy()[np.triu_indices(10, 1)])
        share[name] = (np.concatenate(p) < 0.05).mean()
    assert share["scattered"] == pytest.approx(0.05, abs=0.03)
    assert share["in patches"] > 0.3


def test_never_across_libraries() -> None:
    values = np.concatenate([smooth_types(3, 0), smooth_types(3, 1)])
    slides = np.repeat(["a", "b"], N)
    over = table(values, np.concatenate([grid(), grid()]), slide=pd.Categorical(slides))
    apart = table(values, np.concatenate([grid(), grid() + np.array([1e6, 0])]), slide=pd.Categorical(slides))
    weights = dense_weights(over.obsm["spatial"], 150, slides, own=True, cutoff=0.2)
    result = sd.tl.colocalization(over, key="abundance", library_key="slide")
    np.testing.assert_allclose(result.r, dense_r(values, weights))
    for other in (
        sd.tl.colocalization(apart, key="abundance", library_key="slide"),
        sd.tl.colocalization(apart, key="abundance"),
    ):
        pd.testing.assert_frame_equal(other.r, result.r)
        pd.testing.assert_frame_equal(other.q, result.q)


def test_libraries_are_found_or_warned_of() -> None:
    values = np.concatenate([smooth_types(3, 0), smooth_types(3, 1)])
    slides = pd.Categorical(np.repeat(["a", "b"], N))
    over = table(values, np.concatenate([grid(), grid()]), slide=slides)
    expected = sd.tl.colocalization(over, key="abundance", library_key="slide")
    with pytest.warns(UserWarning, match="2 slides that lie over one another.*They see each other"):
        sd.tl.colocalization(over, key="abundance", length_um=150)
    sd.pp.neighborhoods(over, radius_um=150, library_key="slide")
    pd.testing.assert_frame_equal(sd.tl.colocalization(over, key="abundance").r, expected.r)


SLOW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(
    scale=st.floats(0.5, 20),
    shift=st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)),
    turn=st.floats(0, 6),
    factor=st.floats(0.01, 100),
)
def test_only_relative_places_and_amounts_matter(
    spots: ad.AnnData, scale: float, shift: tuple[float, float], turn: float, factor: float
) -> None:
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = table(factor * spots.obsm["abundance"], scale * grid() @ rotation + shift)
    # No pair of the grid is at the distance at which the weights end, so that rounding decides nothing.
    one = sd.tl.colocalization(spots, key="abundance", length_um=150)
    other = sd.tl.colocalization(moved, key="abundance", length_um=150 * scale)
    for name in ("r", "z", "p"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-4, atol=1e-5)


def test_order_of_rows_and_types_does_not_matter(spots: ad.AnnData) -> None:
    order = np.random.default_rng(0).permutation(N)
    shuffled = table(spots.obsm["abundance"][order][:, ::-1], grid()[order])
    one, other = (sd.tl.colocalization(each, key="abundance") for each in (spots, shuffled))
    np.testing.assert_allclose(other.q.to_numpy()[::-1, ::-1], one.q)


def test_unknown_rows_are_left_out(spots: ad.AnnData) -> None:
    unknown = np.random.default_rng(0).random(N) < 0.3
    values = spots.obsm["abundance"].copy()
    values[unknown, 2] = np.nan
    result = sd.tl.colocalization(table(values, grid()), key="abundance")
    assert result.n_rows == (~unknown).sum()
    weights = dense_weights(grid()[~unknown], 150, np.zeros(result.n_rows), own=True, cutoff=0.2)
    np.testing.assert_allclose(result.r, dense_r(values[~unknown], weights))
    view = sd.tl.colocalization(spots[~unknown], key="abundance", length_um=150)
    np.testing.assert_allclose(view.r, result.r)


def test_nothing_is_written(spots: ad.AnnData) -> None:
    before = spots.copy()
    sd.tl.colocalization(spots, key="abundance")
    assert spots.obsm["abundance"].tobytes() == before.obsm["abundance"].tobytes()
    assert list(spots.obsm) == list(before.obsm)
    assert spots.uns == before.uns


def test_same_bits_twice(spots: ad.AnnData) -> None:
    one, other = (sd.tl.colocalization(spots, key="abundance") for _ in range(2))
    pd.testing.assert_frame_equal(one.q, other.q, check_exact=True)


def missing(result: Colocalization) -> np.ndarray:
    return np.isnan([result.r, result.z, result.p, result.q])


def test_types_without_cells(spots: ad.AnnData, caplog: pytest.LogCaptureFixture) -> None:
    expected = sd.tl.colocalization(spots[:, :], key="abundance")
    values = spots.obsm["abundance"].copy()
    values[:, 3] = 0
    with caplog.at_level(logging.INFO, "stdistill"):
        result = sd.tl.colocalization(table(values, grid()), key="abundance")
    assert "The same in all 400 rows, and without R: 'type 3'." in caplog.text
    assert missing(result)[:, 3].all()
    assert missing(result)[:, :, 3].all()
    others = [f"type {i}" for i in (0, 1, 2, 4)]
    pd.testing.assert_frame_equal(result.z.loc[others, others], expected.z.loc[others, others])
    assert result.q.loc[others, others].notna().to_numpy().sum() == 12


def test_all_types_constant_and_one_type() -> None:
    assert missing(sd.tl.colocalization(table(np.ones((N, 3)), grid()), key="abundance")).all()
    one = sd.tl.colocalization(table(smooth_types(2, 0)[:, :1], grid()), key="abundance")
    assert one.r.shape == (1, 1)
    assert one.r.iloc[0, 0] > 0.5
    assert missing(one)[1:].all()


def test_two_rows_and_one() -> None:
    two = table([[0, 1], [1, 0]], np.array([[0, 0], [100, 0]]))
    result = sd.tl.colocalization(two, key="abundance")
    # W is (1, w; w, 1) / (1 + w) with w = exp(-1 / 4.5).
    w = np.exp(-1 / 4.5)
    assert result.r.iloc[0, 1] == pytest.approx(-(1 - w) / (1 + w))
    with pytest.raises(ValueError, match=r"obsm\['abundance'\] is known for 1 of 1 rows; R needs two at least"):
        sd.tl.colocalization(two[:1], key="abundance")
    two.obsm["abundance"][:] = np.nan
    with pytest.raises(ValueError, match=r"is known for 0 of 2 rows"):
        sd.tl.colocalization(two, key="abundance")


def test_nothing_within_reach(spots: ad.AnnData) -> None:
    with pytest.warns(
        UserWarning, match=r"No two of the 400 rows lie within 17.9 µm of each other; the median spacing"
    ):
        result = sd.tl.colocalization(spots, key="abundance", length_um=10)
    np.testing.assert_allclose(result.r, np.corrcoef(spots.obsm["abundance"].T.astype(float)))
    cells = table(smooth_types(3, 0), grid(20))
    with pytest.raises(ValueError, match=r"No two of the 400 rows lie within 1.79 µm .* Give a larger length_um"):
        sd.tl.colocalization(cells, key="abundance", length_um=1)
    with pytest.raises(ValueError, match="no two places on one slide"):
        sd.tl.colocalization(table(smooth_types(3, 0), np.zeros((N, 2))), key="abundance")


def test_bad_input(spots: ad.AnnData) -> None:
    def measure(**changed: object) -> None:
        sd.tl.colocalization(spots, **{"key": "abundance", **changed})

    with pytest.raises(KeyError, match=r"key='x' is not abundances in .obsm; there is: 'abundance'"):
        measure(key="x")
    with pytest.raises(KeyError, match=r"library_key='slide' is not a column of .obs"):
        measure(library_key="slide")
    with pytest.raises(ValueError, match="length_um must be positive"):
        measure(length_um=0)
    with pytest.raises(TypeError, match="length_um must be a number, found '50'"):
        measure(length_um="50")
    for cutoff in (1, 1.5):
        with pytest.raises(ValueError, match=f"cutoff must lie between 0 and 1, found {cutoff}"):
            measure(cutoff=cutoff)
    with pytest.raises(ValueError, match="cutoff must be positive"):
        measure(cutoff=0)
    spots.obs["slide"] = pd.Categorical(["a"] * 399 + [None])
    with pytest.raises(ValueError, match=r"obs\['slide'\] names no slide for 1 cells"):
        measure(library_key="slide")
    spots.obsm["abundance"][7, 1] = -1
    with pytest.raises(ValueError, match=r"has 1 negative values, such as -1.0 of 'type 1' in row 7"):
        measure()
    spots.obsm["abundance"][7, 1] = 1
    spots.obsm["spatial"] = spots.obsm["spatial"].astype(float)
    spots.obsm["spatial"][3] = np.nan
    with pytest.raises(ValueError, match="1 of 400 cells have a NaN or infinite centre"):
        measure()
    del spots.obsm["spatial"]
    with pytest.raises(KeyError, match=r'There is no .obsm\["spatial"\]'):
        measure()
    with pytest.raises(TypeError, match="Expected an AnnData or a SpatialData, found DataFrame"):
        sd.tl.colocalization(pd.DataFrame(), key="abundance")


def test_spatialdata(make_slide: Callable) -> None:
    slide = make_slide(grid() + 10, extent=3000.0, shape=(64, 64))
    slide.tables["table"].obsm["abundance"] = smooth_types(3, 0).astype(np.float32)
    slide.tables["table"].uns["stdistill"] = {"abundances": {"types": list("abc")}}
    result = sd.tl.colocalization(slide, key="abundance")
    assert result.r.index.tolist() == list("abc")
    assert result.n_rows == N


def test_a_length_beyond_the_slide() -> None:
    """20 places 100 µm apart: 1,900 µm each way, which 1,060 µm reach across (1.794 lengths), and 1,050 do not."""
    spots = table(smooth_types(3, 0), grid())
    message = r"length_um=1060 reaches 1902 µm, and the centres of 1 of 1 slides lie within 1900 × 1900 µm"
    with pytest.warns(UserWarning, match=message):
        far = sd.tl.colocalization(spots, key="abundance", length_um=1060)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near = sd.tl.colocalization(spots, key="abundance", length_um=1050)
        usual = sd.tl.colocalization(spots, key="abundance")
    assert np.abs(far.r).max().max() <= np.abs(near.r).max().max() < 0.1 < np.abs(usual.r).max().max()


def test_a_length_beyond_one_of_two_slides() -> None:
    spots = table(smooth_types(3, 0), grid(), slide=np.repeat(["a", "b"], [396, 4]))  # b: four places in a row
    with pytest.warns(UserWarning, match=r"the centres of 1 of 2 slides lie within 300 × 0 µm"):
        sd.tl.colocalization(spots, key="abundance", length_um=500, library_key="slide")
