"""What is spoilt: small valid files of each kind that the library reads, and how it reads them."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import shapely
import tifffile
from fuzz_mutations import (
    ARCHIVE,
    ARRAYS,
    HDF5,
    JSON,
    NPY,
    PACKED_JSON,
    PACKED_TABLE,
    PARQUET,
    TABLE,
    TIFF,
    Draw,
    Spoil,
    any_of,
    spoil_bytes,
    spoil_entries,
    spoil_safetensors,
)  # fmt: skip
from huggingface_hub import constants
from PIL import Image

import stdistill as sd
from stdistill._features.store import FeatureStore, find_finished, prepare_store
from stdistill._flows.predict import read_table
from stdistill._formats.alignment import read_alignment
from stdistill._formats.annotations import label_by_polygons
from stdistill._formats.cell_groups import read_cell_groups
from stdistill._formats.outlines import read_outlines
from stdistill._formats.slides.listing import list_slides
from stdistill._formats.slides.open import open_slide
from stdistill._nuclei.nuclei import Nuclei
from stdistill._nuclei.store import NucleusStore
from stdistill._report.source import read_manifest
from stdistill._runs.cohort import CohortFolder
from stdistill._runs.folder import Run
from stdistill._support.files import digest
from stdistill.models.formats import write_card

STORED = Path(__file__).parents[1] / "tests" / "stored"
N_CELLS = 100
MPP = 1.0
HUB = "owner/model"


@dataclass(frozen=True)
class Kind:
    """A kind of file or folder."""

    make: Callable[[Path], Mapping[str, Spoil]]
    """Writes a valid one to a folder, and returns how each of its files is spoilt, by its path in the folder."""
    read: Callable[[Path], object]
    """Reads all of it."""
    finish: Callable[[Path, str], None] = lambda folder, name: None
    """Makes right again what would hide the fault, such as a checksum."""
    alone: bool = False
    """Whether each of the files, or of the folders, is read by itself."""


def _simulated() -> Path:
    """Return a simulated bundle, which is drawn once."""
    folder = Path(tempfile.gettempdir()) / f"stdistill-fuzz-{sd.__version__}" / "outs"
    if not folder.is_dir():
        sd.datasets.simulate_xenium(folder, n_cells=N_CELLS, seed=3, he_mpp=MPP)
    return folder


def make_bundle(folder: Path, source: Path | None = None) -> Mapping[str, Spoil]:
    """Write a Xenium bundle with its H&E."""
    shutil.copytree(source or _simulated(), folder, dirs_exist_ok=True)
    return {
        "experiment.xenium": JSON,
        "cells.parquet": PARQUET,
        "cell_feature_matrix.h5": HDF5,
        "cells.zarr.zip": spoil_bytes,
        "simulated_cell_groups.csv": TABLE,
        "simulated_he_imagealignment.csv": TABLE,
        "simulated_he_image.ome.tif": TIFF,
    }


def make_deposit(folder: Path, source: Path | None = None) -> Mapping[str, Spoil]:
    """Write what people deposit of a bundle: the matrix and the table of cells."""
    for name in ("cell_feature_matrix.h5", "cells.csv.gz"):
        shutil.copy((source or _simulated()) / name, folder / name)
    return {"cells.csv.gz": PACKED_TABLE, "cell_feature_matrix.h5": HDF5}


def read_bundle(folder: Path) -> None:
    """Read a bundle as users do, and the pixels of its H&E."""
    for image in sd.pp.read_xenium(folder).images.values():
        for level in image.children.values():
            level["image"].compute()


def make_alignments(folder: Path) -> Mapping[str, Spoil]:
    """Write an alignment as 10x publishes it, and as Xenium Explorer exports it."""
    text = "0.0,-1.2,2000\n1.2,0.0,10\n0,0,1\n"
    (folder / "alignment.csv").write_text(text)
    with zipfile.ZipFile(folder / "alignment.zip", "w") as archive:
        archive.writestr("matrix.csv", text)
        archive.writestr("keypoints.csv", "fixedX,fixedY,alignmentX,alignmentY\n1,2,3,4\n")
    return {"alignment.csv": TABLE, "alignment.zip": ARCHIVE}


def read_alignments(folder: Path) -> None:
    """Read the matrices."""
    for path in sorted(folder.iterdir()):
        read_alignment(path)


def _square(left: float, top: float) -> list[list[float]]:
    return [[left, top], [left + 9, top], [left + 9, top + 9], [left, top + 9], [left, top]]


def make_geojson(folder: Path) -> Mapping[str, Spoil]:
    """Write annotations and cells as QuPath does."""
    shapes = [
        {"type": "Polygon", "coordinates": [_square(0, 0), _square(2, 2)]},
        {"type": "MultiPolygon", "coordinates": [[_square(20, 0)], [_square(40, 0)]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [_square(60, 0)]}]},
        {"type": "Point", "coordinates": [80, 5]},
    ]
    properties = [
        {"objectType": "annotation", "classification": {"name": "tumour", "color": [1, 2, 3]}},
        {"objectType": "cell", "classification": '{"name": "stroma"}', "measurements": {"area": 81}},
        {"objectType": "annotation", "name": "fat", "classification": {"names": ["a", "b"]}},
        {"objectType": "detection"},
    ]
    features = [
        {"type": "Feature", "id": str(number), "geometry": shape, "properties": own, "nucleusGeometry": shapes[0]}
        for number, (shape, own) in enumerate(zip(shapes, properties, strict=True))
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    (folder / "all.geojson").write_bytes(text)
    (folder / "all.geojson.gz").write_bytes(gzip.compress(text))
    return {"all.geojson": JSON, "all.geojson.gz": PACKED_JSON}


def read_geojson(folder: Path) -> None:
    """Read it as nuclei, and as a pathologist's annotations."""
    centers = np.stack(np.meshgrid(np.arange(0, 90.0, 5), np.arange(0, 10.0, 5)), axis=-1).reshape(-1, 2)
    for path in sorted(folder.iterdir()):
        read_outlines(path, "px")
        label_by_polygons(centers, path, "pixels")


def make_cell_groups(folder: Path) -> Mapping[str, Spoil]:
    """Write 10x's table of groups."""
    rows = [f"cell-{i},{'T cells' if i % 2 else 'B cells'},#{i:06x}" for i in range(20)]
    (folder / "cell_groups.csv").write_text("\n".join(["cell_id,group,color", *rows, ""]))
    return {"cell_groups.csv": TABLE}


def read_groups(folder: Path) -> None:
    """Read the groups of some cells."""
    read_cell_groups(folder / "cell_groups.csv", pd.Index([f"cell-{i}" for i in range(30)]))


def _draw_slide(side: int = 96) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    tissue = ((x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 3) ** 2)[..., None]
    noise = np.random.default_rng(0).integers(0, 30, (side, side, 3))
    return np.where(tissue, np.array([180, 90, 150]) + noise, 225 + noise % 20).astype(np.uint8)


def make_slides(folder: Path) -> Mapping[str, Spoil]:
    """Write a slide as several scanners do, and as plain images."""
    pixels = _draw_slide()
    words = "Aperio Image Library v12.0.15 \r\n96x96 [0,0 96x96] (32x32) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    how: dict[str, dict[str, Any]] = {
        "tiled.tif": {"tile": (32, 32), "compression": "deflate", "resolution": (20_000, 20_000), "resolutionunit": 3},
        "strips.tif": {"rowsperstrip": 16, "compression": "lzw"},
        "flat.tif": {},
        "big.tif": {"tile": (32, 32), "compression": "jpeg"},
        "planar.tif": {"tile": (32, 32), "planarconfig": "separate"},
    }
    for name, options in how.items():
        planar = np.moveaxis(pixels, -1, 0) if "planar" in name else pixels
        with tifffile.TiffWriter(folder / name, bigtiff=name == "big.tif") as tiff:
            tiff.write(planar, photometric="rgb", metadata=None, **options)
    with tifffile.TiffWriter(folder / "aperio.svs") as tiff:
        tiled = {"tile": (32, 32), "photometric": "rgb", "metadata": None, "compression": "jpeg"}
        tiff.write(pixels, description=words, **tiled)
        tiff.write(pixels[:24, :24].copy(), photometric="rgb", metadata=None, description="Aperio thumbnail")
        tiff.write(pixels[::2, ::2].copy(), description="Aperio level", **tiled)
    with tifffile.TiffWriter(folder / "pyramid.ome.tif", ome=True) as tiff:
        tiff.write(pixels, subifds=1, tile=(32, 32), photometric="rgb", metadata={"axes": "YXS", "PhysicalSizeX": 0.5})
        tiff.write(pixels[::2, ::2].copy(), subfiletype=1, tile=(32, 32), photometric="rgb")
    for name in ("plain.png", "plain.jpg", "plain.bmp"):
        Image.fromarray(pixels).save(folder / name)
    tiffs = {path.name: TIFF for path in folder.iterdir() if path.suffix in (".tif", ".svs")}
    return {**tiffs, "plain.png": spoil_bytes, "plain.jpg": spoil_bytes, "plain.bmp": spoil_bytes}


def read_slides(folder: Path) -> None:
    """Open the slides and decode all of their levels."""
    for path in sorted(folder.iterdir()):
        for level in open_slide(path).levels:
            level.compute(scheduler="synchronous")


def _spoil_card(draw: Draw, content: bytes) -> bytes:
    """Change entries of a card, and sign it as if it had been saved so."""
    card = json.loads(content)
    card["model"] = spoil_entries(draw, card["model"])
    try:
        return write_card(card["kind"], card["model"], card["sha256"])
    except ValueError:  # as JSON has no NaN
        return json.dumps(card).encode()


CARD = any_of(_spoil_card, _spoil_card, JSON)
TENSORS = any_of(spoil_safetensors, spoil_bytes)


def make_models(folder: Path) -> Mapping[str, Spoil]:
    """Write models: one in the present format, and those of earlier ones."""
    for name in ("teacher", "expression_model"):
        shutil.copytree(STORED / name, folder / name)
    sd.models.load(STORED / "student").save(folder / "student")
    sd.models.load(STORED / "expression_model").save(folder / "expression")
    history = {f"{name}/history.csv": TABLE for name in ("student", "expression", "teacher")}
    tensors = {f"{name}/model.safetensors": TENSORS for name in ("student", "expression")}
    cards = {f"{name}/card.json": CARD for name in ("student", "expression")}
    early = {
        "teacher/card.json": JSON,
        "expression_model/card.json": JSON,
        "expression_model/weights.safetensors": TENSORS,
    }
    return {**history, **tensors, **cards, **early}


def sign(folder: Path, name: str) -> None:
    """Put the checksum of a file that was spoilt on the card of its model, so that more than that is looked at."""
    path = folder / name
    card = path.with_name("card.json")
    if path == card or path.parent.name in ("teacher", "expression_model"):  # of earlier formats
        return
    held = json.loads(card.read_text())
    sums = {**held["sha256"], path.name: digest(path.read_bytes())}
    sums.pop("card.json")
    card.write_bytes(write_card(held["kind"], held["model"], sums))


def read_models(folder: Path) -> None:
    """Load the models, and show them."""
    for path in sorted(folder.iterdir()):
        model = sd.models.load(path)
        repr(model)
        model._repr_html_()


def make_hub(folder: Path) -> Mapping[str, Spoil]:
    """Write what the hub's client keeps of a model."""
    repository = folder / f"models--{HUB.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee" + 34 * "0")
    snapshot = repository / "snapshots" / ("c0ffee" + 34 * "0")
    sd.models.load(STORED / "student").save(snapshot)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    own = str(snapshot.relative_to(folder))
    return {f"{own}/card.json": CARD, f"{own}/model.safetensors": TENSORS, f"{own}/history.csv": TABLE}


def read_hub(folder: Path) -> None:
    """Load the model from the hub's cache, without network."""
    offline = {"HF_HUB_CACHE": str(folder), "HF_HUB_OFFLINE": True}
    with mock.patch.multiple(constants, **offline):
        model = sd.models.NicheModel.from_pretrained(HUB)
    repr(model)
    model._repr_html_()


def make_runs(folder: Path) -> Mapping[str, Spoil]:
    """Write the folder of a run, and that of a cohort with a slide that is done, one that failed and one that waits."""
    with Run(folder / "run", command="run", parameters={"seed": 0}) as run:
        run.check_input({"n_cells": 3})
        run.step("table", lambda: None)
    shutil.copy(STORED / "cells.h5ad", folder / "run" / "cells.h5ad")
    cohort = CohortFolder(folder / "cohort")
    slides = pd.DataFrame({"slide": ["/x/a.svs", "/x/b.svs", "/x/c.svs"], "patient": ["1", "2", "3"]})
    cohort.begin(slides, command="predict", parameters={"seed": 0})
    cohort.work("a").mkdir(parents=True)
    facts = {"n_cells": 100, "n_niches": 90, "verdict": "usable", "seconds": {"nuclei": 2.0}}
    cohort.settle("a", status="done", reason=None, error=None, **facts)
    cohort.settle("b", status="failed", reason="It is truncated.", error="ValueError", seconds={"tissue": 1.0})
    return {
        "run/manifest.json": JSON,
        "cohort/cohort.json": JSON,
        "cohort/slides.csv": TABLE,
        "cohort/status/a.json": JSON,
        "cohort/status/b.json": JSON,
    }


def read_runs(folder: Path) -> None:
    """Go on with the run or the cohort, and look at what became of the slides."""
    if (folder / "run").exists():
        with Run(folder / "run", command="run", parameters={"seed": 0}) as run:
            run.check_input({"n_cells": 3})
            run.step("table", lambda: None, lambda: None)
        read_manifest(folder / "run")
        return
    cohort = CohortFolder.open(folder / "cohort")
    _ = cohort.slides, cohort.statuses()
    slides = pd.DataFrame({"slide": ["/x/a.svs", "/x/d.svs"]})
    cohort.begin(slides, command="predict", parameters={"seed": 0})


def make_lists(folder: Path) -> Mapping[str, Spoil]:
    """Write tables of slides."""
    (folder / "a.svs").write_bytes(b"II*\0")
    (folder / "slides.csv").write_text("slide,mpp,nuclei,group\na.svs,0.25,,tumour\nb.svs,,n.csv,normal\n")
    return {"slides.csv": TABLE}


def read_lists(folder: Path) -> None:
    """Read the table."""
    list_slides([folder / "slides.csv"])


FINGERPRINT: dict[str, Any] = {
    "image": "a",
    "cells": "b",
    "encoders": [{"name": "texture", "revision": None}],
    "windows": "c",
}
IDS = np.array([f"cell-{i}" for i in range(6)])


def make_stores(folder: Path) -> Mapping[str, Spoil]:
    """Write a store of features and one of nuclei, with what is kept of each."""
    prepare_store(folder / "features", {**FINGERPRINT, "made_with": {"device": "cpu"}}, IDS, 4, 2, resume=True)
    store = FeatureStore(folder / "features")
    for window in range(2):
        store.write(window, 3 * window, np.ones((3, 4), np.float16))
    square = np.array(_square(0, 0))
    columns = {name: np.ones(1) for name in Nuclei.__dataclass_fields__ if name != "polygons"}
    with NucleusStore.opened(folder / "nuclei", {"image": "a"}, resume=True) as nuclei:
        nuclei.write(0, Nuclei(polygons=np.array([shapely.Polygon(square)]), **columns))
    own = {"features.npy": NPY, "cell_ids.txt": TABLE, "fingerprint.json": JSON, "finished": spoil_bytes}
    return {
        **{f"features/{name}": spoil for name, spoil in own.items()},
        "nuclei/fingerprint.json": JSON,
        "nuclei/000000.npz": ARRAYS,
    }


def read_stores(folder: Path) -> None:
    """Go on with the store."""
    if (folder / "nuclei").exists():
        with NucleusStore.opened(folder / "nuclei", {"image": "a"}, resume=True) as nuclei:
            for tile in nuclei.finished():
                nuclei.read(tile)
        return
    fingerprint = {**FINGERPRINT, "made_with": {"device": "cpu"}}
    if find_finished(folder / "features", fingerprint, IDS) is None:
        prepare_store(folder / "features", fingerprint, IDS, 4, 2, resume=True)
    store = FeatureStore(folder / "features")
    store.unfinished()
    np.asarray(store.features(IDS)).sum()


def make_tables(folder: Path) -> Mapping[str, Spoil]:
    """Write tables of cells and of nuclei in every format that is read."""
    cells = ad.read_h5ad(STORED / "cells.h5ad")
    cells.obsm["X_he"] = np.ones((cells.n_obs, 6), np.float16)
    cells.write_h5ad(folder / "cells.h5ad")
    rows = pd.DataFrame({"x": np.arange(9.0), "y": np.arange(9.0), "cell_id": [f"n{i}" for i in range(9)]})
    rows.to_csv(folder / "centers.csv", index=False)
    rows.to_parquet(folder / "centers.parquet")
    labels = np.kron(np.arange(1, 10).reshape(3, 3), np.pad(np.ones((4, 4), int), 1)).astype(np.int32)
    np.save(folder / "labels.npy", labels)
    tifffile.imwrite(folder / "labels.tif", labels)
    return {
        "cells.h5ad": HDF5,
        "centers.csv": TABLE,
        "centers.parquet": PARQUET,
        "labels.npy": NPY,
        "labels.tif": TIFF,
    }


def read_tables(folder: Path) -> None:
    """Read cells as the commands do, and nuclei."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".h5ad":
            read_table(path, sd.models.load(STORED / "student").card)
        else:
            read_outlines(path, "px")


KINDS = {
    "bundles": Kind(make_bundle, read_bundle),
    "deposits": Kind(make_deposit, read_bundle),
    "alignment files": Kind(make_alignments, read_alignments, alone=True),
    "GeoJSON": Kind(make_geojson, read_geojson, alone=True),
    "cell groups": Kind(make_cell_groups, read_groups),
    "slides": Kind(make_slides, read_slides, alone=True),
    "models": Kind(make_models, read_models, sign, alone=True),
    "hub cards": Kind(make_hub, read_hub, sign),
    "manifests": Kind(make_runs, read_runs, alone=True),
    "slide lists": Kind(make_lists, read_lists),
    "stores": Kind(make_stores, read_stores, alone=True),
    "tables": Kind(make_tables, read_tables, alone=True),
}
