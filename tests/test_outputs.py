"""``docs/outputs.md`` names all that the functions write, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from spatialdata import SpatialData

import stdistill as sd

DOCUMENT = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text()


@pytest.fixture(scope="module")
def slide(bundle: Path, narrow: dict[str, int]) -> SpatialData:
    slide = sd.pp.read_xenium(bundle)
    sd.pp.find_tissue(slide)
    sd.pp.quality(slide)
    sd.pp.split_strips(slide, crop_px=64, mpp=0.3)
    sd.pp.neighborhoods(slide, n_neighbors=20)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, n_augmented=1)
    sd.pp.tiles(slide, tile_px=128, min_cells=1)
    sd.pp.embed_tiles(slide, encoder="texture")
    sd.pp.abundances(slide, cell_type_key="cell_type")
    sd.pp.tissue_share(slide)
    sd.pp.embed_expression(slide, max_epochs=1)
    sd.tl.nolan(slide, k=4, max_epochs=2)
    model = sd.tl.distill(slide, k=4, max_epochs=1, patience=1)
    sd.tl.predict(slide, model)
    sd.tl.verdict(slide, model)
    sd.tl.kmeans_niches(slide, k=3)
    sd.tl.logistic_niches(slide)
    sd.tl.leiden(slide, k=3)
    sd.tl.choose_k(slide, ks=(2, 3), n_runs=2, max_epochs=1, width=16, depth=1)
    sd.tl.match_niches(slide, reference_key="teacher_niche", key="he_leiden_niche")
    small = {"max_epochs": 1, "n_members": 2, "width": 16, "depth": 2, "progress_bar": False}
    composition = sd.tl.decompose(slide, use_neighbors=True, **small)
    sd.tl.predict(slide, composition)
    aligned = sd.tl.align(slide, max_epochs=1, width=8, hidden=8, n_dims=4, progress_bar=False)
    sd.tl.predict(slide, aligned)
    cells = slide["table"]
    cells.obs["patient"] = np.where(cells.obsm["spatial"][:, 0] < np.median(cells.obsm["spatial"][:, 0]), "a", "b")
    sd.tl.cross_validate(slide, group_key="patient", library_key="patient", **small)
    del cells.obs["patient"]
    return slide


def rows(section: str) -> list[list[str]]:
    text = DOCUMENT.split(f"## {section}\n")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return table[1:]


def test_keys_of_the_table(slide: SpatialData, bundle: Path) -> None:
    documented = {key for row in rows("In the table") for key in re.findall(r'`(\w+(?:\["\w+"\])+)`', row[0])}
    import spatialdata_io

    theirs = spatialdata_io.xenium(
        bundle, morphology_focus=False, aligned_images=False, cells_labels=False, nucleus_labels=False
    )["table"]
    ours = slide["table"]
    written = {f'{part}["{key}"]' for part in ("obs", "obsm", "obsp", "uns") for key in getattr(ours, part)}
    present = {f'{part}["{key}"]' for part in ("obs", "uns") for key in getattr(theirs, part)}
    written |= {f'uns["stdistill"]["{step}"]' for step in ours.uns["stdistill"]}
    written = {re.sub(r"_logit_\d+", "_logit_0", key) for key in written}  # the first stands for all
    assert written - present - {'uns["stdistill"]'} == documented


def test_keys_of_the_records(slide: SpatialData) -> None:
    documented = {
        (step, key)
        for row in rows("Records")
        for step in re.findall(r"`(\w+)`", row[0])
        for key in re.findall(r"`(\w+)`", row[1])
    }
    written = {
        (step, key)
        for step, record in _by_step(slide["table"].uns["stdistill"])
        for key in record
        if key != "stdistill_version"
    }
    assert written <= documented
    optional = {
        ("split_strips", "coordinate_system"),
        ("slide", "mpp_source"),
        ("slide", "scene"),
        ("slide", "bounds"),
        ("split_strips", "library_key"),
        ("neighborhoods", "library_key"),
        ("embed_he", "coordinate_system"),
        ("embed_he", "precision"),
        ("embed_he", "context"),
        ("embed_he", "stain_normalization"),
        ("tissue_share", "coordinate_system"),
        ("tissue_share", "rgb_threshold"),
        ("embed_expression", "layer"),
        ("embed_expression", "library_key"),
        ("embed_expression", "model"),
        ("nolan", "crop_um"),
        ("nolan", "library_key"),
        ("kmeans_niches", "crop_um"),
        ("kmeans_niches", "library_key"),
        ("logistic_niches", "library_key"),
        ("distill", "library_key"),
        ("predict", "library_key"),
        ("decompose", "group_key"),
        ("decompose", "library_key"),
        ("decompose", "penalty"),  # of a ridge regression
        ("choose_k", "crop_um"),
        ("choose_k", "library_key"),
        ("predict", "known_variation"),  # of a student by slide
        ("verdict", "known_variation"),
        ("verdict", "nucleus_um"),  # of nuclei that were found
        ("verdict", "ood_is_unknown"),
    }
    assert documented - written == optional


def test_keys_of_the_records_of_a_spatialdata(slide: SpatialData) -> None:
    documented = {
        (step, key)
        for row in rows("Records of a SpatialData")
        for step in re.findall(r"`(\w+)`", row[0])
        for key in re.findall(r"`(\w+)`", row[1])
    }
    written = {(step, key) for step, record in slide.attrs["stdistill"].items() for key in record}
    assert {one for one in written if one[1] != "stdistill_version"} == documented


def _by_step(records: dict[str, dict]) -> list[tuple[str, dict]]:
    """Name the record of a step that has one for each key by the step alone."""
    keys = re.compile("_(he_leiden_niche|he_abundance|cv_mlp|cv_ridge|cv_knn|cv_mean)$")
    return [(keys.sub("", name), record) for name, record in records.items()]


def test_keys_of_a_table_of_nuclei(bundle: Path, tmp_path: Path) -> None:
    documented = {key for row in rows("In a table of nuclei") for key in re.findall(r'`(\w+(?:\["\w+"\])+)`', row[0])}
    keys = set(re.findall(r"`(\w+)`", rows("In a table of nuclei")[-1][1]))
    sections = [sd.pp.read_slide(bundle / "simulated_he_image.ome.tif") for _ in range(2)]
    sd.pp.detect_nuclei(sections[0], method="tree")
    centres = sections[0]["table"].obsm["spatial"]
    np.savetxt(tmp_path / "centres.csv", centres, delimiter=",", header="x,y", comments="")
    sd.pp.detect_nuclei(sections[1], nuclei=tmp_path / "centres.csv", nuclei_unit="um")
    recorded = {"weights"}  # of a network
    for section in sections:
        table = section["table"]
        written = {f'{part}["{key}"]' for part in ("obs", "obsm", "obsp", "uns") for key in getattr(table, part)}
        written |= {f'uns["stdistill"]["{step}"]' for step in table.uns["stdistill"]}
        assert written - {'uns["stdistill"]'} == documented
        recorded |= set(table.uns["stdistill"]["detect_nuclei"]) - {"stdistill_version"}
    assert recorded == keys


def test_keys_of_a_table_of_tiles(slide: SpatialData) -> None:
    found = rows("In a table of tiles")
    by_steps = [row for row in found if row[-1] != "`tl.retrieval`"]
    documented = {key for row in by_steps for key in re.findall(r'`(\w+(?:\["\w+"\])+)`', row[0])}
    table = slide["tiles"]
    written = {f'{part}["{key}"]' for part in ("obs", "obsm", "obsp", "uns") for key in getattr(table, part)}
    written |= {f'uns["stdistill"]["{step}"]' for step in table.uns["stdistill"]}
    assert written - {'uns["stdistill"]'} == documented
    for step, optional in (
        ("tiles", set()),
        ("embed_tiles", {"precision", "stain_normalization", "embed_he"}),
        ("align", set()),
        ("predict_aligned", set()),
    ):
        (text,) = (row[1] for row in found if f'["stdistill"]["{step}"]' in row[0])
        recorded = set(table.uns["stdistill"][step]) - {"stdistill_version"}
        assert set(re.findall(r"`(\w+)`", text)) - recorded == optional
        assert not recorded - set(re.findall(r"`(\w+)`", text))


def test_what_retrieval_writes_to_tiles() -> None:
    found = {
        key
        for row in rows("In a table of tiles")
        if row[-1] == "`tl.retrieval`"
        for key in re.findall(r'`(\w+(?:\["\w+"\])+)`', row[0])
    }
    (recorded,) = (row[1] for row in rows("In a table of tiles") if "retrieval" in row[0] and "uns" in row[0])
    tiles = ad.AnnData(np.zeros((200, 1)), uns={"stdistill": {"tiles": {"n_tiles": 200}}})
    for number, side in enumerate(("he", "expression")):
        tiles.obsm[f"X_aligned_{side}"] = np.random.default_rng(number).normal(size=(200, 4))
    sd.tl.retrieval(tiles)
    assert {*(f'obs["{key}"]' for key in tiles.obs), 'uns["stdistill"]["retrieval"]'} == found
    assert set(re.findall(r"`(\w+)`", recorded)) == set(tiles.uns["stdistill"]["retrieval"]) - {"stdistill_version"}


def test_elements(slide: SpatialData) -> None:
    always = {key for row in rows("Elements of a SpatialData")[:5] for key in re.findall(r'\["(\w+)"\]', row[0])}
    assert {name for kind, name, _ in slide.gen_elements() if kind != "tables"} == always


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_all_of_it_survives_writing(slide: SpatialData, tmp_path: Path, form: str) -> None:
    table = slide["table"]
    getattr(table, f"write_{form}")(tmp_path / "cells")
    read = getattr(ad, f"read_{form}")(tmp_path / "cells")
    assert read.uns["stdistill"].keys() == table.uns["stdistill"].keys()
    for key in ("encoder", "mpp", "torch_version"):
        assert read.uns["stdistill"]["embed_he"][key] == table.uns["stdistill"]["embed_he"][key]
    np.testing.assert_array_equal(read.obsm["X_he"], table.obsm["X_he"])
    assert read.obs["student_niche"].equals(table.obs["student_niche"])
