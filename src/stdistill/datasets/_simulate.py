"""Simulated Xenium sections with a matching H&E."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stdistill.datasets._simulation.writing.layout import LAYOUTS

_MIN_CELLS = 100
_N_NICHES = (2, 26)
"""Fewest and most niches: the kinds that there are, and a variant of each."""
_N_CELL_TYPES = (6, 22)
"""Fewest and most cell types: those that every tissue has, and all that there are."""
_HE_MPP = (0.1, 2.0)
"""Finest and coarsest H&E, µm per pixel."""


def simulate_xenium(
    path: str | Path,
    *,
    n_cells: int = 20_000,
    seed: int = 0,
    xoa_version: str = "3.0.0",
    n_niches: int = 8,
    n_cell_types: int = 16,
    he_mpp: float = 0.274,
    stain_seed: int | None = None,
    scanner_seed: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a simulated Xenium output bundle with a matching H&E.

    A section of human tissue is drawn: niches with their architecture (glands, cell nests, fat, fibres, vessels),
    cells of many types placed in them, their molecules, and how all of it looks in DAPI and in H&E. It is written
    in the files of the Xenium Onboard Analysis (XOA), so that :func:`spatialdata_io.xenium` and
    :func:`stdistill.pp.read_xenium` read it like a real slide. Use it for tests, tutorials and benchmarks, not to
    draw conclusions about tissue.

    Parameters
    ----------
    path
        Folder to write; must not exist, unless ``overwrite``.
    n_cells
        Number of cells, met exactly; at least 100. Some 4,500 lie on a mm² of tissue.
    seed
        Another seed is another tissue: other domains, mixtures of cell types, marker genes, shapes and sizes of
        nuclei, stain colours, orientation of the H&E. The same seed gives the same arrays. The notes say how to get
        several slides of one tissue.
    xoa_version
        Layout of the bundle: ``"1.0.2"``, ``"1.7.6"``, ``"2.0.0"``, ``"3.0.0"`` or ``"4.0.0"``. Before 2.0.0 every
        cell has one nucleus, since then some have none and some have two.
    n_niches
        Number of tissue niches, 2 to 26.
    n_cell_types
        Number of cell types, 6 to 22. Some of them look the same in H&E and differ in expression only.
    he_mpp
        µm per pixel of the H&E, 0.1 to 2. The default is that of the public 10x Genomics slides.
    stain_seed
        Stains the tissue in another laboratory: other colours, strengths and balance of haematoxylin and eosin, those
        that a slide of this `seed` has. ``None``: those of `seed`.
    scanner_seed
        Scans it with another scanner: brightness and tint of the light, contrast, sharpness, quality of the JPEG.
        ``None``: a sharp scanner, whose JPEG has quality 90.
    overwrite
        Replace a bundle that an earlier call wrote to ``path``. Nothing else is ever replaced.

    Returns
    -------
    ``path``, with these files:

    ``experiment.xenium``
        Specifications: software version, ``pixel_size`` of 0.2125 µm.
    ``cells.parquet``, ``cells.csv.gz``
        One row a cell: centroid (µm), counts, areas (µm²).
    ``cell_feature_matrix.h5``
        Counts of genes and negative controls.
    ``transcripts.parquet``
        One row a counted molecule: place (µm), gene, cell, quality.
    ``cell_boundaries.parquet``, ``nucleus_boundaries.parquet``
        Vertices of the polygons (µm).
    ``cells.zarr.zip``
        Label images of nuclei and cells, in morphology pixels.
    ``morphology_focus…`` (before 2.0.0 also ``morphology_mip.ome.tif``)
        DAPI, pyramidal OME-TIFF.
    ``simulated_he_image.ome.tif``
        H&E, pyramidal OME-TIFF in a frame of its own, turned by about a quarter.
    ``simulated_he_imagealignment.csv``
        3×3 matrix from H&E pixel (x, y) to morphology pixel (x, y).
    ``simulated_cell_groups.csv``
        Cell types: ``cell_id``, ``group``, ``color``; about 1 % of the cells are left out, as in real ones.
    ``simulated_pathology.geojson``
        Coarse regions in H&E pixels, as QuPath exports them.

    Beside the folder, where nothing reads it by accident, the truth is written to ``<path>_truth.parquet``:
    ``cell_id``, ``niche``, ``cell_type``.

    Raises
    ------
    TypeError
        A parameter that must be a number is none.
    ValueError
        A parameter is out of its range.
    FileExistsError
        ``path`` or the truth exists and ``overwrite`` is false, or ``path`` is not a simulated bundle.

    Notes
    -----
    The tissue model and all its numbers are our choice, made by eye so that an overview and a field at 20x look
    plausible. How unevenly a section is stained, whatever niche lies where, is set by real sections: its thickness and
    its uptake of haematoxylin drift across it, and that of eosin also within a niche (*Quality* in the documentation).
    Molecules outside of cells are not simulated: every transcript belongs to a cell. Drawing and writing
    is done tile by tile, so memory grows slowly with ``n_cells``.

    Several slides of one tissue have the same `seed`, `n_niches` and `n_cell_types`, and differ in

    - the section: another `n_cells`, by a tenth or more (below some 2 % it may be the same section again). Cell types,
      genes and their expression, niches and their mixtures, stain and scanner stay, places are others.
    - the stain: another `stain_seed`.
    - the scanner: another `scanner_seed`.
    - the scale: another `he_mpp`.

    The last three change the H&E alone; with `he_mpp` also its alignment and the pathologist's regions, which are in
    its pixels. How far laboratories differ is our choice too. Between stains the mean hue of the tissue (0 to 1) has a
    standard deviation of 0.02 to 0.03 and its brightness one of some 4 %, between scanners 0.01 and 5 %. A scanner has
    a white of 219 to 246, multiplies optical densities by 0.73 to 1.38, blurs by a Gaussian of up to 0.45 µm, and
    writes a JPEG of quality 70 to 95.

    Examples
    --------
    >>> import stdistill as sd
    >>> outs = sd.datasets.simulate_xenium("slide/outs", n_cells=500, seed=1)
    >>> sd.pp.read_xenium(outs)["table"].n_obs
    500
    >>> other_laboratory = sd.datasets.simulate_xenium("other/outs", n_cells=400, seed=1, stain_seed=2, scanner_seed=2)
    """
    from stdistill._support.checks import check_choice, check_integer, check_positive

    path = Path(path).expanduser()
    check_integer(n_cells, "n_cells", minimum=_MIN_CELLS)
    check_integer(seed, "seed", minimum=0)
    check_choice(xoa_version, "xoa_version", list(LAYOUTS))
    check_integer(n_niches, "n_niches", minimum=_N_NICHES[0], maximum=_N_NICHES[1])
    check_integer(n_cell_types, "n_cell_types", minimum=_N_CELL_TYPES[0], maximum=_N_CELL_TYPES[1])
    check_positive(he_mpp, "he_mpp")
    if not _HE_MPP[0] <= he_mpp <= _HE_MPP[1]:
        msg = f"he_mpp must be at least {_HE_MPP[0]} and at most {_HE_MPP[1]} µm per pixel, found {he_mpp}."
        raise ValueError(msg)
    for name, value in (("stain_seed", stain_seed), ("scanner_seed", scanner_seed)):
        if value is not None:
            check_integer(value, name, minimum=0)
    truth = path.parent / f"{path.name}_truth.parquet"
    _check_target(path, truth, overwrite)

    from stdistill.datasets._simulation.writing.bundle import write_bundle

    path.parent.mkdir(parents=True, exist_ok=True)
    # A sibling is on the same disk, so that the last step is a rename.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        bundle, scratch, new_truth = (Path(temporary) / name for name in ("bundle", "scratch", "truth.parquet"))
        bundle.mkdir()
        scratch.mkdir()
        write_bundle(
            bundle,
            new_truth,
            scratch,
            n_cells=int(n_cells),
            seed=int(seed),
            xoa_version=xoa_version,
            n_niches=int(n_niches),
            n_cell_types=int(n_cell_types),
            he_mpp=float(he_mpp),
            stain_seed=None if stain_seed is None else int(stain_seed),
            scanner_seed=None if scanner_seed is None else int(scanner_seed),
        )
        if path.exists():
            shutil.rmtree(path)
        new_truth.replace(truth)
        bundle.rename(path)
    return path


def _check_target(path: Path, truth: Path, overwrite: bool) -> None:
    """Refuse to lose what is there, and to delete anything but a simulated bundle."""
    from stdistill.datasets._simulation.writing.experiment import is_simulated

    if not overwrite:
        for existing in (path, truth):
            if existing.exists():
                msg = f"{existing} exists already: name a path that is new, or replace what is there by overwrite=True."
                raise FileExistsError(msg)
    elif path.exists() and not is_simulated(path):
        msg = (
            f"{path} is no bundle that simulate_xenium wrote, and overwrite=True replaces nothing else: name a path "
            "that is new."
        )
        raise FileExistsError(msg)
