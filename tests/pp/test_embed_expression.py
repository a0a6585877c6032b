from __future__ import annotations

import errno
import gc
import json
import logging
import os
import random
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from spatialdata import SpatialData

import stdistill as sd
from stdistill.models.formats import write_card


def cells(n: int = 150, n_genes: int = 20, *, seed: int = 0, **obs: Any) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(rng.gamma(1.0, 1.0, n_genes), (n, n_genes)).astype(np.float32))
    names = pd.Index([f"cell-{i}" for i in range(n)])
    genes = pd.DataFrame(index=[f"gene-{i}" for i in range(n_genes)])
    return ad.AnnData(counts, obs=pd.DataFrame(obs, index=names), var=genes)


def split_cells(**kwargs: Any) -> ad.AnnData:
    """100 training cells, 30 of the test, 10 of the buffer, 10 off the image, in no order."""
    labels = np.array(["train"] * 100 + ["test"] * 30 + ["buffer"] * 10 + [None] * 10, dtype=object)
    return cells(150, split=pd.Categorical(np.random.default_rng(3).permutation(labels)), **kwargs)


def latent(adata: ad.AnnData, **kwargs: Any) -> np.ndarray:
    """What is written to a copy, so that a test can compare several."""
    copied = sd.pp.embed_expression(adata, copy=True, max_epochs=1, **kwargs)
    return copied.obsm["X_scVI"]


@pytest.fixture(scope="module")
def brain(shared_data: Path) -> ad.AnnData:
    """Real cells of a Xenium slide, as many as a test can train on."""
    with pytest.warns(UserWarning, match=r"has no experiment\.xenium"):
        table = sd.pp.read_xenium(shared_data / "xenium_mouse_brain")["table"]
    return table[np.random.default_rng(0).choice(table.n_obs, 1000, replace=False)].copy()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[ad.AnnData, Path]:
    """Cells with their latent, and the folder of the model that made it."""
    adata, folder = cells(), tmp_path_factory.mktemp("saved") / "scvi"
    sd.pp.embed_expression(adata, max_epochs=np.int64(2), n_latent=np.int64(7), seed=np.int64(0), save=folder)
    return adata, folder


def test_real_cells_get_the_latent_of_scvi(brain: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers as scVI's own calls, on a table of the training cells alone, with the same seed."""
    import scvi
    from lightning.pytorch.utilities.seed import isolate_rng

    adata = brain.copy()
    position = adata.obsm["spatial"][:, 1]
    adata.obs["split"] = np.where(position < np.median(position), "train", "test")
    adata.obs["slide"] = np.where(np.arange(adata.n_obs) % 3, "b", "a")
    sd.pp.embed_expression(adata, max_epochs=3, seed=5, library_key="slide")

    theirs = brain.copy()
    theirs.obs["slide"] = adata.obs["slide"]
    training = theirs[adata.obs["split"] == "train"].copy()
    for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "XLA_FLAGS"):
        monkeypatch.setenv(variable, "")  # scVI sets them, and they are taken back after the test
    with isolate_rng():
        monkeypatch.setattr(scvi.settings, "seed", 5)
        scvi.model.SCVI.setup_anndata(training, batch_key="slide")
        model = scvi.model.SCVI(training)
        model.train(max_epochs=3, accelerator="cpu")
        expected = model.get_latent_representation(theirs)
    np.testing.assert_allclose(adata.obsm["X_scVI"], expected, rtol=0, atol=1e-5)
    assert adata.obsm["X_scVI"].std() > 10 * 1e-5


def test_what_is_written(bundle: Path, tmp_path: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    before = sd.pp.read_xenium(bundle)["table"]
    sd.pp.split_strips(slide, crop_px=64, mpp=0.3, key_added="strips")
    del before.uns["stdistill"]["read_xenium"]
    sd.pp.embed_expression(slide, max_epochs=2)
    table = slide["table"]
    assert table.obsm["X_scVI"].shape == (table.n_obs, 10)
    assert table.obsm["X_scVI"].dtype == np.float32
    assert np.isfinite(table.obsm["X_scVI"]).all()
    assert set(table.obsm) == {"spatial", "X_scVI"}
    assert set(table.obs) - set(before.obs) == {
        *("strips", "strips_mark", "X_scVI_fitted", "X_scVI_model", "X_scVI_mark", "spatial_mark")
    }
    assert (table.obs["X_scVI_fitted"] == (table.obs["strips"] == "train")).all()
    assert set(table.uns) == set(before.uns)
    assert list(table.var) == list(before.var)
    assert (table.X != before.X).nnz == 0

    table.write_h5ad(tmp_path / "table.h5ad")
    record = ad.read_h5ad(tmp_path / "table.h5ad").uns["stdistill"]["embed_expression"]
    assert record["split_key"] == "strips"
    assert record["n_training_cells"] == (table.obs["strips"] == "train").sum() < table.n_obs
    assert record["n_genes"] == table.n_vars
    assert record["max_epochs"] == 2
    assert record["elbo_train"].shape == (2,)
    assert record["elbo_validation"] > 0
    assert record["scvi_version"]
    assert "layer" not in record


def test_training_sees_training_cells_only() -> None:
    adata = split_cells()
    others = (adata.obs["split"] != "train").to_numpy()
    assert others.sum() == 50
    changed = adata.copy()
    changed.X = sp.diags(np.where(others, 3, 1).astype(np.float32)) @ adata.X
    first, second = latent(adata), latent(changed)
    np.testing.assert_array_equal(first[~others], second[~others])
    assert (first[others] != second[others]).any(axis=1).all()
    assert not np.array_equal(first, latent(adata, split_key=None))


def test_the_log_says_what_was_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    adata = split_cells()
    with caplog.at_level(logging.INFO, logger="stdistill"):
        latent(adata)
        latent(adata, split_key=None)
    assert "scVI on 100 of 150 cells ('train' in .obs['split'])" in caplog.text
    assert "scVI on 150 of 150 cells (there is no split)" in caplog.text


def test_slides_without_training_cells_get_a_latent() -> None:
    adata = split_cells()
    adata.obs["slide"] = np.where(adata.obs["split"] == "test", "only tested", "both")
    one_slide = adata.copy()
    one_slide.obs["slide"] = "both"
    np.testing.assert_array_equal(latent(adata, library_key="slide"), latent(one_slide, library_key="slide"))


def test_same_seed_same_bits_and_no_trace() -> None:
    adata = cells()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the state that must not be disturbed)
    torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    environment = dict(os.environ)
    first = latent(adata)
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert dict(os.environ) == environment
    torch.manual_seed(2)
    np.testing.assert_array_equal(first, latent(adata))
    assert not np.array_equal(first, latent(adata, seed=1))


def test_nothing_is_kept_alive() -> None:
    """scVI registers each table and so keeps its counts in memory; ours are taken out again, a user's own stay."""
    import scvi

    own = cells(seed=9)
    scvi.model.SCVI.setup_anndata(own)
    adata = cells()
    sd.pp.embed_expression(adata, max_epochs=1)
    counts = weakref.ref(adata.X)
    del adata
    gc.collect()
    assert counts() is None
    assert scvi.model.SCVI(own).summary_stats["n_cells"] == 150


def test_no_stray_files_nor_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.chdir(tmp_path)
    latent(cells())
    assert list(tmp_path.iterdir()) == []
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


@pytest.mark.filterwarnings("error", "ignore:The 'future.infer_string' option")  # anndata's, on pandas 3
def test_no_warnings() -> None:
    latent(cells(), batch_size=128)  # 135 are fitted: the last batch has 7 cells


@pytest.mark.parametrize("n", [10, 143, 144])
def test_a_last_batch_too_small_for_batch_normalisation(n: int) -> None:
    """Of 143 cells 129 are fitted: a batch of 128, and one that could not be normalised."""
    assert np.isfinite(latent(cells(n))).all()


def test_default_epochs() -> None:
    """scVI's rule, at the sizes of a small slide, a usual one, and the largest of the paper."""
    from stdistill.models.expression import _default_epochs

    sizes = (10, 20_000, 400_000, 1_353_765, 100_000_000)
    assert [_default_epochs(n) for n in sizes] == [400, 400, 20, 6, 1]


def test_same_bits_with_any_number_of_threads() -> None:
    """A machine that is busy leaves fewer threads, and the same seed gives the same latent all the same."""
    before = torch.get_num_threads()
    latents = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            latents.append(latent(cells()))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*latents)


@pytest.mark.parametrize("form", ["csc", "csr_array", "dense", "fortran", "int64", "uint8", "float64", "view"])
def test_forms_of_the_matrix(form: str) -> None:
    adata = cells()
    convert: dict[str, Callable[[Any], Any]] = {
        "csc": sp.csc_matrix,
        "csr_array": sp.csr_array,
        "dense": lambda x: x.toarray(),
        "fortran": lambda x: np.asfortranarray(x.toarray()),
        "view": lambda x: x,
    }
    other = adata.copy()
    other.X = convert.get(form, lambda x: x.astype(form))(adata.X)
    kind, dtype = type(other.X), other.X.dtype
    if form == "view":
        other = ad.concat({"a": other, "b": cells(seed=1)}, merge="same", index_unique="-")[:150]
    np.testing.assert_array_equal(latent(adata), latent(other))
    if form != "view":
        assert (type(other.X), other.X.dtype) == (kind, dtype)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()])
def test_backed(form: Callable[[Any], Any], tmp_path: Path) -> None:
    adata = cells()
    adata.X = form(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    sd.pp.embed_expression(backed, max_epochs=1)
    assert backed.isbacked
    np.testing.assert_array_equal(backed.obsm["X_scVI"], latent(cells()))


def test_layer() -> None:
    adata = cells()
    expected = latent(adata)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.log1p()
    np.testing.assert_array_equal(latent(adata, layer="counts"), expected)
    adata.X = None
    np.testing.assert_array_equal(latent(adata, layer="counts"), expected)
    with pytest.raises(ValueError, match=r"no \.X: name the layer with raw counts in layer=; there is: 'counts'"):
        latent(adata)
    with pytest.raises(KeyError, match=r"layer='raw' is not a layer of the table; there is: 'counts'"):
        latent(adata, layer="raw")


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.6931, r"\.X holds 0\.6931, which is no count; the values look normalised or log-transformed"),
        (-1, r"\.X holds -1, which is no count; the values look scaled or spoilt"),
        (np.nan, r"\.X holds nan, which is no count"),
        (np.inf, r"\.X holds inf, which is no count"),
    ],
)
def test_values_that_are_no_counts(value: float, message: str, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # One bad value anywhere is found, whatever the chunk it is in.
    monkeypatch.setattr("stdistill._table.checks.CHUNK", 100)
    adata = cells()
    adata.layers["raw"] = adata.X.copy()
    adata.X.data[-3] = value
    if dense:
        adata.X = adata.X.toarray()
    with pytest.raises(ValueError, match=rf"{message}.*scVI needs raw counts: name the layer.*there is: 'raw'"):
        sd.pp.embed_expression(adata, max_epochs=1)
    del adata.layers["raw"]
    with pytest.raises(ValueError, match=r"there is no layer either that layer= could name"):
        sd.pp.embed_expression(adata, max_epochs=1)
    assert not adata.obsm.keys()
    assert not adata.uns


def test_cells_without_transcripts() -> None:
    adata = cells()
    adata.X = sp.diags(np.r_[0, 0, np.ones(148)].astype(np.float32)) @ adata.X
    with pytest.warns(UserWarning, match="2 cells have no transcripts") as caught:
        sd.pp.embed_expression(adata, max_epochs=1)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(adata.obsm["X_scVI"][0], adata.obsm["X_scVI"][1])
    assert np.isfinite(adata.obsm["X_scVI"]).all()
    adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    with pytest.raises(ValueError, match="no counts: 150 cells and 20 genes, all zero"):
        latent(adata)


def test_a_diverged_training_writes_nothing() -> None:
    adata = cells()
    adata.X.data[0] = 1e38
    with pytest.raises(RuntimeError, match="training of scVI diverged"):
        sd.pp.embed_expression(adata, max_epochs=1)
    assert not adata.obsm.keys()


def test_bad_arguments(tmp_path: Path) -> None:
    adata = cells(slide=["a"] * 149 + [None])
    for name, value in (("n_latent", 0), ("max_epochs", 0), ("batch_size", 2), ("seed", -1)):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            sd.pp.embed_expression(adata, **{name: value})
    with pytest.raises(TypeError, match=r"max_epochs must be an integer, found 1.5"):
        sd.pp.embed_expression(adata, max_epochs=1.5)
    with pytest.raises(ValueError, match="key_added must be a name of letters"):
        sd.pp.embed_expression(adata, key_added="X/scVI")
    with pytest.raises(KeyError, match="library_key='library' is not a column"):
        sd.pp.embed_expression(adata, library_key="library")
    with pytest.raises(ValueError, match="names no slide for 1 cells"):
        sd.pp.embed_expression(adata, library_key="slide")
    with pytest.raises(KeyError, match="split_key='strips' is not a column"):
        sd.pp.embed_expression(adata, split_key="strips")
    with pytest.raises(ValueError, match="give one of them"):
        sd.pp.embed_expression(adata, model=tmp_path, save=tmp_path)
    with pytest.raises(TypeError, match="Expected an AnnData or a SpatialData, found ndarray"):
        sd.pp.embed_expression(adata.X.toarray())
    with pytest.raises(ValueError, match="There are 9 cells to train on, and scVI needs at least 10"):
        latent(cells(9))
    adata.obs["split"] = "test"
    with pytest.raises(ValueError, match=r"No cell is 'train' in .obs\['split'\], which holds \['test'\]"):
        sd.pp.embed_expression(adata)
    repeated = cells()
    repeated.var_names = ["Gad1", "Gad1", *repeated.var_names[2:]]
    with pytest.raises(ValueError, match=r"not unique \('Gad1'\): run .var_names_make_unique"):
        sd.pp.embed_expression(repeated)
    assert not adata.obsm.keys()


def test_copy_of_a_spatialdata(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide(40)
    copied = sd.pp.embed_expression(slide, max_epochs=1, copy=True, key_added="X_latent")
    assert copied["table"].obsm["X_latent"].shape == (40, 10)
    assert "X_latent" not in slide["table"].obsm
    assert "stdistill" not in slide["table"].uns


def test_a_saved_model_gives_the_same_bits(saved: tuple[ad.AnnData, Path]) -> None:
    adata, folder = saved
    again = cells()
    sd.pp.embed_expression(again, model=str(folder))
    np.testing.assert_array_equal(again.obsm["X_scVI"], adata.obsm["X_scVI"])


def test_a_saved_model_on_another_slide(saved: tuple[ad.AnnData, Path], caplog: pytest.LogCaptureFixture) -> None:
    adata, folder = saved
    # Another library, its genes in another order and one more, split as its user likes.
    other = split_cells()
    other.obs["slide"] = "unseen"
    order = np.random.default_rng(0).permutation(20)
    more = ad.concat([other[:, order], cells(n_genes=21)[:, [20]]], axis=1, merge="first")
    sd.pp.embed_expression(other, model=folder, library_key="slide")
    with caplog.at_level(logging.INFO, logger="stdistill"):
        sd.pp.embed_expression(more, model=folder)
    assert "Used 20 of the 21 genes" in caplog.text
    np.testing.assert_array_equal(other.obsm["X_scVI"], adata.obsm["X_scVI"])
    np.testing.assert_array_equal(other.obsm["X_scVI"], more.obsm["X_scVI"])
    record = more.uns["stdistill"]["embed_expression"]
    assert record["model"] == str(folder)
    assert record["n_latent"] == 7
    assert record["n_training_cells"] == 150
    assert "split_key" not in record
    assert record["model_sha256"] == adata.uns["stdistill"]["embed_expression"]["model_sha256"]


def test_what_a_saved_model_refuses(saved: tuple[ad.AnnData, Path]) -> None:
    adata, folder = saved
    fewer = adata[:, 2:].copy()
    fewer.obsm.clear()
    with pytest.raises(ValueError, match=r"lacks 2 of the 20 genes of the model: 'gene-0', 'gene-1'\. Its own 18"):
        sd.pp.embed_expression(fewer, model=folder)
    logged = cells()
    logged.X = logged.X.log1p()
    with pytest.raises(ValueError, match="look normalised or log-transformed"):
        sd.pp.embed_expression(logged, model=folder)
    assert not fewer.obsm.keys()


def test_saving_overwrites_nothing(saved: tuple[ad.AnnData, Path], tmp_path: Path) -> None:
    adata, folder = saved
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"card.json", "history.csv", "model.safetensors"}
    with pytest.raises(FileExistsError, match=r"scvi exists already: give save= a new folder"):
        sd.pp.embed_expression(adata, save=folder)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file exists already"):
        sd.pp.embed_expression(adata, save=tmp_path / "file")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_save_that_is_cut_off_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is the last file: its disk is full, and the same call is not refused afterwards."""
    folder, write = tmp_path / "models" / "scvi", Path.write_bytes

    def full(self: Path, *arguments: Any, **options: Any) -> int:
        if self.name == "card.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            sd.pp.embed_expression(cells(), max_epochs=1, save=folder)
    assert not list(folder.parent.iterdir())
    sd.pp.embed_expression(cells(), max_epochs=1, save=folder)
    assert [path.name for path in folder.parent.iterdir()] == ["scvi"]
    sd.pp.embed_expression(cells(), model=folder)


def test_folders_without_a_readable_model(saved: tuple[ad.AnnData, Path], tmp_path: Path) -> None:
    adata, folder = cells(), saved[1]
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere; expected a saved model.*save=\.$"):
        sd.pp.embed_expression(adata, model=tmp_path / "nowhere")
    (tmp_path / "model.pt").touch()
    with pytest.raises(FileNotFoundError, match="scVI's own files are not read, because opening them can run code"):
        sd.pp.embed_expression(adata, model=tmp_path)
    card, weights = (folder / "card.json").read_text(), (folder / "model.safetensors").read_bytes()
    fields = json.loads(card)
    model, sums = fields["model"], {name: sum_ for name, sum_ in fields["sha256"].items() if name != "card.json"}

    def sealed(entries: dict[str, Any]) -> str:
        return write_card("expression", entries, sums).decode()

    shutil.copy(folder / "history.csv", tmp_path)
    spoilt = {
        "not JSON": (card[:50], weights),
        "a list": ("[]", weights),
        "of a later format": (json.dumps({**fields, "format_version": 4}), weights),
        "of another kind": (json.dumps({**fields, "kind": "niche"}), weights),
        "of other genes": (sealed({**model, "genes": model["genes"][1:]}), weights),
        "of another dimension": (sealed({**model, "n_latent": 5}), weights),
        "without libraries": (sealed({**model, "libraries": []}), weights),
        "without genes": (sealed({name: value for name, value in model.items() if name != "genes"}), weights),
        "cut off": (card, weights[:-100]),
        "empty": (card, b""),
    }
    for text, content in spoilt.values():
        (tmp_path / "card.json").write_text(text)
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"The expression model in .* cannot be read"):
            sd.pp.embed_expression(adata, model=tmp_path)
    assert not adata.obsm.keys()
