from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._measures.abundances.moran import Colocalization

TYPES = ["tumour", "T cells", "B/plasma", "fat"]


def symmetric(seed: int, types: list[str] = TYPES) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(0, 0.2, (len(types), len(types)))
    values = values + values.T
    np.fill_diagonal(values, 0.6)
    return pd.DataFrame(values, index=types, columns=types)


def result(r: pd.DataFrame) -> Colocalization:
    return Colocalization(r=r, z=r, p=r, q=r, length_um=150.0, cutoff=0.2, n_rows=100)


def test_rows_and_their_mean() -> None:
    a, b = symmetric(0), symmetric(1)
    frame = sd.tl.compare_colocalization(result(a), result(b))
    assert frame.columns.tolist() == ["type", "cosine", "correlation", "n_undefined"]
    assert frame["type"].tolist() == [*TYPES, "all"]
    for row, name in enumerate(TYPES):
        x, y = a.loc[name].drop(name), b.loc[name].drop(name)
        assert frame["cosine"][row] == pytest.approx(x @ y / np.sqrt((x @ x) * (y @ y)))
        assert frame["correlation"][row] == pytest.approx(x.corr(y))
    for column in ("cosine", "correlation"):
        assert frame[column].iloc[-1] == pytest.approx(frame[column].iloc[:-1].mean())
    assert frame["n_undefined"].tolist() == [0] * 5


def test_frames_are_taken_as_maps() -> None:
    a, b = symmetric(0), symmetric(1)
    pd.testing.assert_frame_equal(
        sd.tl.compare_colocalization(a, b), sd.tl.compare_colocalization(result(a), result(b))
    )


def test_types_go_by_name() -> None:
    a, b = symmetric(0), symmetric(1, [*TYPES, "other"])
    shuffled = b.loc[["other", *TYPES[::-1]], [*TYPES[2:], "other", *TYPES[:2]]]
    own = b.loc[TYPES, TYPES]
    pd.testing.assert_frame_equal(sd.tl.compare_colocalization(a, shuffled), sd.tl.compare_colocalization(a, own))


def test_the_diagonal() -> None:
    a, b = symmetric(0), symmetric(1)
    b_one, a_one = b.copy(), a.copy()
    for frame in (a_one, b_one):
        for name in TYPES:
            frame.loc[name, name] = 1.0
    pd.testing.assert_frame_equal(
        sd.tl.compare_colocalization(a, b, diagonal="one"),
        sd.tl.compare_colocalization(a_one, b_one, diagonal="computed"),
    )
    other = b.copy()
    other.loc["fat", "fat"] = -3.0
    for diagonal in ("exclude", "one"):
        pd.testing.assert_frame_equal(
            sd.tl.compare_colocalization(a, b, diagonal=diagonal),
            sd.tl.compare_colocalization(a, other, diagonal=diagonal),
        )
    assert sd.tl.compare_colocalization(a, other, diagonal="computed")["cosine"].iloc[3] < 0


def test_undefined_types_are_counted() -> None:
    a, b = symmetric(0), symmetric(0)
    b.loc["fat"] = b.loc[:, "fat"] = np.nan
    frame = sd.tl.compare_colocalization(a, b).set_index("type")
    assert frame["n_undefined"].to_dict() == {"tumour": 0, "T cells": 0, "B/plasma": 0, "fat": 1, "all": 1}
    assert frame.loc["fat", "cosine"] == frame.loc["fat", "correlation"] == 0
    frame = sd.tl.compare_colocalization(b, a).set_index("type")
    assert frame["n_undefined"].sum() == 0
    assert np.isnan(frame.loc["fat", "cosine"])
    assert frame.loc["all", "cosine"] == pytest.approx(1)


def test_a_prediction_that_says_nothing_gains_nothing() -> None:
    a = symmetric(0) / 5
    nothing = a * np.nan
    assert sd.tl.compare_colocalization(a, nothing)["cosine"].iloc[-1] == 0
    assert sd.tl.compare_colocalization(a, nothing)["n_undefined"].iloc[-1] == 4
    assert sd.tl.compare_colocalization(a, nothing, diagonal="one")["cosine"].iloc[-1] > 0.9


def test_a_truth_that_says_nothing() -> None:
    frame = sd.tl.compare_colocalization(symmetric(0) * np.nan, symmetric(0))
    assert frame[["cosine", "correlation"]].isna().all(axis=None)


def test_bad_input() -> None:
    a = symmetric(0)
    with pytest.raises(ValueError, match=r"diagonal must be one of \['exclude', 'one', 'computed'\], found 'ones'"):
        sd.tl.compare_colocalization(a, a, diagonal="ones")  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"b: expected what sd.tl.colocalization returns, or a frame of R, found ndarray"
    ):
        sd.tl.compare_colocalization(a, a.to_numpy())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"b lacks 1 of the 4 types of a: \['fat'\]. It has \['tumour', 'T cells'"):
        sd.tl.compare_colocalization(a, symmetric(0, TYPES[:3]))
    with pytest.raises(ValueError, match="a: expected a frame of types × types, each of them once; its rows are"):
        sd.tl.compare_colocalization(a.rename(index={"fat": "tumour"}), a)
    with pytest.raises(ValueError, match=r"b: expected a frame of types × types.*its columns \['tumour', 'T cells'\]"):
        sd.tl.compare_colocalization(a, a[["tumour", "T cells"]])
    with pytest.raises(ValueError, match=r"a has the types \['fat'\]; two at least"):
        sd.tl.compare_colocalization(symmetric(0, ["fat"]), a)


def read_minor_types(folder: Path, name: str) -> ad.AnnData:
    """Proportions of 22 types in the spots of a section of her2st, with centres in µm."""
    spots = pd.read_csv(folder / "spots" / f"{name}_selection.tsv", sep="\t").query("selected == 1")
    spots.index = pd.Index([f"{x}x{y}" for x, y in zip(spots["x"], spots["y"], strict=True)])
    proportions = pd.read_csv(folder / "proportions" / f"{name}-minor.tsv", sep="\t", index_col=0)
    spots = spots.loc[spots.index.intersection(proportions.index)]
    px_per_um = np.polyfit(spots["new_x"], spots["pixel_x"], 1)[0] / 200
    adata = ad.AnnData(np.zeros((len(spots), 1)), obs=pd.DataFrame(index=spots.index))
    adata.obsm["spatial"] = spots[["pixel_x", "pixel_y"]].to_numpy() / px_per_um
    adata.obsm["abundance"] = proportions.loc[spots.index].to_numpy(np.float32)
    adata.uns["stdistill"] = {"abundances": {"types": [name.strip() for name in proportions.columns]}}
    return adata


def test_on_real_sections_ones_on_the_diagonal_hide_all(shared_data: Path) -> None:
    """A map that says nothing nearly reaches that of the next section; without the diagonal it is far from it."""
    truth, other = (
        sd.tl.colocalization(read_minor_types(shared_data / "her2st", name), key="abundance") for name in ("C2", "C3")
    )
    assert truth.length_um == pytest.approx(300, rel=0.1)
    assert truth.r.shape == (22, 22)
    nothing = truth.r * np.nan
    scores = {
        (what, diagonal): sd.tl.compare_colocalization(truth, each, diagonal=diagonal).iloc[-1]
        for what, each in (("other", other), ("nothing", nothing))
        for diagonal in ("exclude", "one")
    }
    for column in ("cosine", "correlation"):
        found = {key: row[column] for key, row in scores.items()}
        assert found["nothing", "exclude"] == 0
        assert found["nothing", "one"] == pytest.approx(0.93, abs=0.01)
        assert found["other", "exclude"] == pytest.approx(0.82, abs=0.02)
        assert found["other", "one"] == pytest.approx(0.98, abs=0.01)


def test_maps_of_other_distances_are_not_compared() -> None:
    near, far = result(symmetric(0)), replace(result(symmetric(1)), length_um=50.0)
    with pytest.raises(ValueError, match=r"a was measured with length_um=150 .* b with 50 and 0\.2: .* a\.r and b\.r"):
        sd.tl.compare_colocalization(near, far)
    with pytest.raises(ValueError, match=r"cutoff=0\.2, b with 150 and 0\.5"):
        sd.tl.compare_colocalization(near, replace(near, cutoff=0.5))
    sd.tl.compare_colocalization(near, replace(near, length_um=152.0))  # as of spots of another slide
    sd.tl.compare_colocalization(near.r, far.r)
