"""Bundles with files that are broken, absent, hidden or written another way; `tests/pp` reads whole ones."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
import zarr

import stdistill as sd

MASKS = "cells.zarr.zip"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n"


def replace(path: Path, content: bytes) -> None:
    """Write a file anew instead of through the link to the shared one."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def without_set(bundle: Path, which: str) -> None:
    """Write the masks as `xeniumranger import-segmentation` does of nuclei or of cells alone."""
    source = zarr.open_group(zarr.storage.ZipStore(bundle / MASKS, mode="r"), mode="r")
    (bundle / MASKS).rename(bundle / "old.zip")
    source = zarr.open_group(zarr.storage.ZipStore(bundle / "old.zip", mode="r"), mode="r")
    store = zarr.storage.ZipStore(bundle / MASKS, mode="w")
    target = zarr.create_group(store, zarr_format=2, attributes=dict(source.attrs))
    for path, member in source.members(max_depth=None):
        if isinstance(member, zarr.Array) and which not in path.split("/"):
            array = target.create_array(path, shape=member.shape, dtype=member.dtype, chunks=member.chunks)
            array.attrs.update(dict(member.attrs))
            array[...] = member[...]
    store.close()


@pytest.mark.parametrize("which", ["0", "1"])
def test_one_polygon_set(bundle: Path, own_bundle: Path, which: str) -> None:
    without_set(own_bundle, which)
    with pytest.warns(UserWarning, match=rf"holds the polygon sets \['{1 - int(which)}'\].*are read; only the column"):
        slide = sd.pp.read_xenium(own_bundle)
    whole = sd.pp.read_xenium(bundle)
    np.testing.assert_array_equal(slide["table"].obsm["spatial"], whole["table"].obsm["spatial"])
    assert (slide["table"].X != whole["table"].X).nnz == 0
    assert set(whole["table"].obs) - set(slide["table"].obs) == {"z_level"}
    np.testing.assert_allclose(sd.get.he_pixels(slide)[["x", "y"]], sd.get.he_pixels(whole)[["x", "y"]])
    with pytest.raises(ValueError, match=r"cannot be read with cell_labels, transcripts \(.*polygon sets"):
        sd.pp.read_xenium(own_bundle, cell_labels=True, transcripts=True)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content[:-3000], "it ends too early"),
        (lambda content: b"", "it is empty"),
        (lambda content: LFS, "pointer of git-lfs"),
    ],
)
def test_broken_masks(own_bundle: Path, spoil: object, why: str) -> None:
    path = own_bundle / MASKS
    replace(path, spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.warns(
        UserWarning, match=rf"outs cannot be read as a whole \(.*cells\.zarr\.zip cannot be opened .*{why}"
    ):
        assert sd.pp.read_xenium(own_bundle, he_image=False)["table"].n_obs == 800
    with pytest.raises(ValueError, match=rf"cannot be read with nucleus_labels .*{why}"):
        sd.pp.read_xenium(own_bundle, he_image=False, nucleus_labels=True)


def test_lists_in_the_table_of_cells(own_bundle: Path) -> None:
    path = own_bundle / "cells.parquet"
    cells = pd.read_parquet(path)
    cells["genes"] = [["EPCAM", "CD3E"]] * len(cells)
    path.unlink()
    cells.to_parquet(path)
    with pytest.raises(ValueError, match=r"cells\.parquet holds lists or records in \['genes'\]"):
        sd.pp.read_xenium(own_bundle, he_image=False)


@pytest.mark.parametrize("name", ["cell_boundaries", "nucleus_boundaries", "transcripts"])
def test_broken_tables_matter_only_where_they_are_asked_for(own_bundle: Path, name: str) -> None:
    path = own_bundle / f"{name}.parquet"
    replace(path, path.read_bytes()[:-100])
    sd.pp.read_xenium(own_bundle, he_image=False)
    with pytest.raises(ValueError, match=rf"{name}\.parquet is no table of .* \(it ends too early\): copy it again"):
        sd.pp.read_xenium(own_bundle, he_image=False, **{name: True})
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"There is no file .*{name}\.parquet"):
        sd.pp.read_xenium(own_bundle, he_image=False, **{name: True})


def test_a_page_in_place_of_the_matrix(own_bundle: Path) -> None:
    replace(own_bundle / "cell_feature_matrix.h5", b"<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(ValueError, match=r"cell_feature_matrix\.h5 is no matrix .*HTML page.*: download it again"):
        sd.pp.read_xenium(own_bundle)


def test_broken_tables_of_cells(own_bundle: Path) -> None:
    replace(own_bundle / "cells.parquet", (own_bundle / "cells.parquet").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"cells\.parquet is no table of cells \(it ends too early\): copy it again"):
        sd.pp.read_xenium(own_bundle)
    (own_bundle / "cells.parquet").unlink()
    replace(own_bundle / "cells.csv.gz", (own_bundle / "cells.csv.gz").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cells\.csv\.gz is no table of cells \(.*EOFError.*\): copy it again"):
        sd.pp.read_xenium(own_bundle)


@pytest.mark.filterwarnings("ignore:.*has no experiment.xenium")
def test_cells_as_a_spreadsheet_saves_them(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cell_feature_matrix.h5").symlink_to(bundle / "cell_feature_matrix.h5")
    cells = pd.read_parquet(bundle / "cells.parquet")
    cells.to_csv(tmp_path / "cells.csv", sep="\t", encoding="utf-16", index=False)
    slide = sd.pp.read_xenium(tmp_path)
    np.testing.assert_allclose(slide["table"].obsm["spatial"], cells[["x_centroid", "y_centroid"]], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*has no experiment.xenium")
def test_a_matrix_in_mex_format(bundle: Path, tmp_path: Path) -> None:
    whole = sd.pp.read_xenium(bundle, he_image=False)["table"]
    (tmp_path / "cells.parquet").symlink_to(bundle / "cells.parquet")
    folder = tmp_path / "cell_feature_matrix"
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", scipy.sparse.coo_matrix(whole.X.T.astype(int)))
    (folder / "barcodes.tsv").write_text("\n".join(whole.obs_names) + "\n")
    names = zip(whole.var["gene_ids"], whole.var_names, strict=True)
    (folder / "features.tsv").write_text("".join(f"{gene}\t{name}\tGene Expression\n" for gene, name in names))
    with pytest.raises(FileNotFoundError, match=r"no file compressed by gzip, as 10x writes it, .*barcodes\.tsv\.gz"):
        sd.pp.read_xenium(tmp_path)
    for path in list(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    part = sd.pp.read_xenium(tmp_path)["table"]
    assert part.var_names.equals(whole.var_names)
    assert (part.X != whole.X).nnz == 0
    np.testing.assert_allclose(part.obsm["spatial"], whole.obsm["spatial"], rtol=1e-6)
    replace(folder / "matrix.mtx.gz", (folder / "matrix.mtx.gz").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"matrix\.mtx\.gz is no matrix .*copy it again"):
        sd.pp.read_xenium(tmp_path)


@pytest.mark.parametrize(
    ("part", "at", "value", "found"),
    [
        ("indices", 5, 2**30, "matrix/indices name genes beyond"),
        ("indices", 5, -1, "matrix/indices name genes beyond"),
        ("indptr", 3, 2**30, "matrix/indptr does not divide"),
        ("indptr", -1, 7, "matrix/indptr does not divide"),
        ("shape", 0, 2, "matrix/indices name genes beyond the 2"),
        ("shape", 1, 3, "matrix/indptr does not divide"),
    ],
)
def test_counts_of_what_is_not_there(own_bundle: Path, part: str, at: int, value: int, found: str) -> None:
    """As one flipped bit leaves it: scipy would read whatever lies in the memory, or end the process."""
    content = io.BytesIO((own_bundle / "cell_feature_matrix.h5").read_bytes())
    with h5py.File(content, "r+") as file:
        file[f"matrix/{part}"][at] = value
    replace(own_bundle / "cell_feature_matrix.h5", content.getvalue())
    with pytest.raises(ValueError, match=rf"cell_feature_matrix\.h5 is no matrix .*{found}.*copy it again"):
        sd.pp.read_xenium(own_bundle)


def test_a_packed_matrix(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cells.parquet").symlink_to(bundle / "cells.parquet")
    (tmp_path / "cell_feature_matrix.tar.gz").touch()
    with pytest.raises(FileNotFoundError, match=r"cell_feature_matrix\.tar\.gz holds the matrix: unpack it there"):
        sd.pp.read_xenium(tmp_path)


def test_hidden_files(own_bundle: Path) -> None:
    for path in list(own_bundle.iterdir()):
        if path.is_file() and "he_image" not in path.name:
            (own_bundle / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    slide = sd.pp.read_xenium(own_bundle)
    assert slide["table"].obs["cell_type"].notna().any()


@pytest.mark.filterwarnings("ignore:.*has no experiment.xenium")
def test_hidden_files_beside_deposited_ones(bundle: Path, tmp_path: Path) -> None:
    for name in ("cell_feature_matrix.h5", "cells.parquet"):
        shutil.copy(bundle / name, tmp_path / f"GSM1_{name}")
        (tmp_path / f"._GSM1_{name}").write_bytes(b"\0\5\x16\7")
    assert sd.pp.read_xenium(tmp_path)["table"].n_obs == 800


def test_specs_in_another_encoding(own_bundle: Path) -> None:
    path = own_bundle / "experiment.xenium"
    specs = {**json.loads(path.read_text()), "region_name": "Gewebe süd"}
    replace(path, json.dumps(specs, ensure_ascii=False).encode("utf-8-sig"))
    assert sd.pp.read_xenium(own_bundle, he_image=False)["table"].n_obs == 800
    replace(path, LFS)
    with pytest.raises(ValueError, match=r"experiment\.xenium is no JSON \(it is a pointer of git-lfs.*git lfs pull"):
        sd.pp.read_xenium(own_bundle)


def test_a_matrix_that_lacks_a_part(own_bundle: Path) -> None:
    content = io.BytesIO((own_bundle / "cell_feature_matrix.h5").read_bytes())
    with h5py.File(content, "r+") as file:
        del file["matrix/indptr"]
    replace(own_bundle / "cell_feature_matrix.h5", content.getvalue())
    with pytest.raises(
        ValueError, match=r"cell_feature_matrix\.h5 is no matrix .*it has no matrix/indptr.*copy it again"
    ):
        sd.pp.read_xenium(own_bundle, he_image=False)


@pytest.mark.parametrize(("name", "value"), [("x_centroid", "left"), ("cell_area", "large")])
def test_words_in_place_of_numbers(bundle: Path, tmp_path: Path, name: str, value: str) -> None:
    shutil.copy(bundle / "cell_feature_matrix.h5", tmp_path)
    cells = pd.read_parquet(bundle / "cells.parquet").astype({name: object})
    cells.loc[3, name] = value
    cells.to_csv(tmp_path / "cells.csv.gz", index=False)
    with pytest.raises(ValueError, match=rf"cells\.csv\.gz holds '{value}' in its column '{name}'; expected numbers"):
        sd.pp.read_xenium(tmp_path)
