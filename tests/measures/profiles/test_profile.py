from __future__ import annotations

import pandas as pd
import pytest

from stdistill._measures.profiles.profile import COLUMNS, NicheProfile


@pytest.fixture
def profile() -> NicheProfile:
    frames = {part: pd.DataFrame(columns=columns) for part, columns in COLUMNS.items()}
    rows = [("7", 80, 0.8, 60, 0.9, "T cells"), ("2", 20, 0.2, 0, float("nan"), None)]
    frames["summary"] = pd.DataFrame(rows, columns=COLUMNS["summary"])
    genes = [("7", "CD3E", 9.0, 2.0, 0.5, 0.1, 1e-9, 1e-8), ("2", "ACTB", 1.0, 0.1, 0.9, 0.9, 0.5, 0.5)]
    frames["markers"] = pd.DataFrame(genes, columns=COLUMNS["markers"])
    cells = [("7", "typical", "cell-1", 3.0, 0.9, "2"), ("7", "borderline", "cell-9", 0.1, 0.5, "2")]
    frames["cells"] = pd.DataFrame(cells, columns=COLUMNS["cells"])
    return NicheProfile(niche_key="niche", sources={}, absent={"neighbors": "there are none"}, **frames)


def test_one_niche(profile: NicheProfile) -> None:
    one = profile["7"]
    assert isinstance(one, NicheProfile)
    assert one.markers["gene"].tolist() == ["CD3E"]
    assert one.summary["niche"].tolist() == ["7"]
    assert one.absent == profile.absent
    assert profile["2"].markers.index.tolist() == [0]
    assert len(profile.markers) == 2
    assert [profile[niche].summary["n_cells"].item() for niche in profile] == [80, 20]
    with pytest.raises(KeyError, match="niche='9' is not a niche of 'niche'; there is: '2', '7'"):
        profile["9"]


def test_names_are_of_those_that_have_one(profile: NicheProfile) -> None:
    assert profile.names == {"7": "T cells"}


def test_text(profile: NicheProfile) -> None:
    lines = str(profile).splitlines()
    assert lines[0] == "Niche 7 – T cells (suggested): 80 cells, 80.0%"
    assert "  markers: CD3E (50% against 10%)" in lines
    assert "  typical cells: cell-1" in lines
    assert "  borderline cells: cell-9" in lines
    assert "Niche 2: 20 cells, 20.0%" in lines
    assert lines[-1] == "No neighbors: there are none"
