"""Nuclei of an H&E alone: found on it, or brought to it from where they were found."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stdistill._slide.affine import apply_affine
from stdistill._slide.glass import background_color
from stdistill._slide.pyramid import SlideLevel, level_for
from stdistill._slide.tissue import NothingSeenError
from stdistill._support.arrays import Float64s
from stdistill._support.checks import check_name, check_positive
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import get_sdata, share_elements
from stdistill._table.he.images import get_image, slide_levels

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill._formats.outlines import Outlines, Source
    from stdistill._table.he.nuclei import NucleusTable
    from stdistill._table.he.slide_record import SlideRecord
    from stdistill._table.he.tissue import Tissue

logger = logging.getLogger("stdistill")

CODE = 1
"""Version of our own part in what is found: to be raised when nuclei come out different."""
SAME = 0.02
"""Relative difference of two values of µm per pixel that are taken for the same."""
BETTER = 0.1
"""So much more of the nuclei must lie on tissue for another frame to be taken."""


def detect_nuclei(
    data: SpatialData,
    *,
    method: Literal["unet", "tree", "instanseg", "cellpose", "stardist"] = "unet",
    weights: str | None = None,
    nuclei: Source | None = None,
    nuclei_unit: Literal["px", "um"] = "px",
    in_bounds: bool | None = None,
    mpp: float | None = None,
    device: str | None = None,
    store: str | Path | None = None,
    resume: bool = True,
    image_key: str = schema.HE_IMAGE,
    tissue_key: str | None = schema.TISSUE,
    shapes_key: str = schema.NUCLEI,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> SpatialData | None:
    """Find the nuclei of an H&E, or take those that are given, as the cells of a slide without transcripts.

    The image is read tile by tile, with what can be seen around each, so that tiles give what the whole would give.
    Tiles without tissue are left out.

    Parameters
    ----------
    data
        SpatialData with an H&E, such as `read_slide` returns.
    method
        ``"unet"``, a small network that is part of this package; ``"tree"``, which has no weights; or a network of
        another package (``pip install 'stdistill[instanseg]'``, ``[cellpose]`` or ``[stardist]``), which downloads its
        weights.
    weights
        Name or path of weights for the network of another package; `None`: its own for H&E, of Cellpose those for all
        images.
    nuclei
        Nuclei that are known already, instead of finding some: GeoJSON of QuPath, a label image (array, TIFF or
        ``.npy``), a GeoDataFrame or GeoParquet of polygons or points, 10x's ``nucleus_boundaries.parquet``, or a CSV of
        centres.
    nuclei_unit
        What the given nuclei are in: ``"px"``, pixels of the image at full resolution, or ``"um"``.
    in_bounds
        Whether pixels of the given nuclei count from the corner of the slide's bounds, as QuPath counts them on an
        image that it opened through OpenSlide and that has some (MRXS, SCN). `None`: as more of the nuclei lie on
        tissue.
    mpp
        µm per pixel, for an image that does not state it. `None`: estimated from the size of its nuclei, with a
        warning.
    device
        ``"cpu"``, ``"cuda"`` or ``"mps"``; `None`: the fastest there is.
    store
        Folder for the nuclei of each finished tile, which stays. `None`: they are kept in memory only.
    resume
        Go on where an equal run stopped. `False` deletes what is in `store` and begins afresh.
    image_key
        Name of the H&E.
    tissue_key
        Name of the outlines of tissue, within which nuclei are kept. Where there are none of that name, or with `None`,
        all that is stained on an overview is looked at.
    shapes_key, table_key
        Names that the nuclei and their table get. What an earlier call wrote there is replaced.
    copy
        Return a copy with the nuclei instead of writing to `data`.

    Returns
    -------
    `None`, or the copy. Written are

    ``shapes[shapes_key]``
        Outlines in µm, in the coordinate system ``"um"`` and those of the image; circles of 3 µm where only centres
        are given.
    ``tables[table_key]``
        One row a nucleus, without expression, linked to the shapes by ``.obs["instance_id"]``: ``.obsm["spatial"]``
        (n, 2) centres in µm; ``.obs["area_um2"]``; ``.obs["eccentricity"]`` of the ellipse with the same second
        moments; ``.obs["solidity"]``, the area over that of the convex hull; ``.obs["haematoxylin"]``, mean optical
        density (natural logarithm); ``.uns["stdistill"]["detect_nuclei"]``, the parameters. Area, eccentricity and
        solidity are missing where only centres are given.

    Raises
    ------
    TypeError
        When `data` is an AnnData, which holds no image.
    KeyError
        When the image is not there.
    ImportError
        When the package of `method` is not installed.
    ValueError
        When no nuclei are found, an element has the name already, a table of nuclei holds what was made of them since
        (features, niches), the image is not RGB of 8 bits, `mpp` differs from
        what is known, given nuclei do not fit the image (their unit or frame is another, a label image has another
        size), or `store` is of another run.
    FileNotFoundError
        When there is no file `nuclei`.
    FileExistsError
        When `store` holds something else.

    Warns
    -----
    UserWarning
        When µm per pixel are estimated, given nuclei are left out, or no more of them lie on nuclei of the image than
        by chance.

    See Also
    --------
    read_slide : read an H&E without transcripts.
    find_tissue : outline the tissue, within which nuclei are kept.
    stdistill.io.to_geojson : write nuclei for QuPath.

    Notes
    -----
    ``"unet"``: a U-Net (Ronneberger et al. 2015) on optical density tells foreground and distance to the border;
    nuclei grow from the summits of the latter (watershed). Data, licence, figures and limits are in the card beside the
    weights. ``"tree"``: of the components above rising thresholds of optical density the best set that does not
    overlap, after Arteta et al. 2012. Both see nuclei at 14 px, 0.43 µm per pixel. Haematoxylin is separated after
    Ruifrok and Johnston 2001. Given nuclei are refused when their median diameter is not 3.5 to 25 µm, they lie less
    than 3.5 µm apart, less than 90 % of them lie on the image, or less than half of these on tissue (our choice).

    Examples
    --------
    >>> import stdistill as sd
    >>> bundle = sd.datasets.simulate_xenium("slide/outs", n_cells=300)
    >>> slide = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
    >>> sd.pp.detect_nuclei(slide)
    >>> list(slide["table"].obs.columns[:4])
    ['area_um2', 'eccentricity', 'solidity', 'haematoxylin']
    """
    from stdistill._table.he.nuclei import check_free, write_nuclei
    from stdistill._table.he.place import find_place
    from stdistill._table.he.tissue import find_tissue_on

    for argument, name in (("shapes_key", shapes_key), ("table_key", table_key)):
        check_name(name, argument)
    data = get_sdata(data, table_key)
    if nuclei is not None and (weights is not None or store is not None):
        msg = "nuclei= are given, so that none are looked for: leave out weights= and store=."
        raise ValueError(msg)
    check_free(data, shapes_key, table_key)
    levels = slide_levels(get_image(data, image_key), image_key)
    tissue = find_tissue_on(data, image_key, levels, tissue_key)
    place = _resolve_place(find_place(data, image_key), data, levels, tissue, mpp, image_key)
    if nuclei is None:
        found, how = _find(levels, tissue, place, method, weights, device, store, resume)
    else:
        found, how = _take(nuclei, nuclei_unit, in_bounds, levels, tissue, place)
    if copy:
        data = share_elements(data)
    write_nuclei(data, found, place, shapes_key=shapes_key, table_key=table_key, **how)
    logger.info('Wrote shapes["%s"] and tables["%s"]: %d nuclei.', shapes_key, table_key, len(found.outlines))
    return data if copy else None


def _resolve_place(
    known: SlideRecord | None,
    sdata: SpatialData,
    levels: list[SlideLevel],
    tissue: Tissue,
    mpp: float | None,
    image_key: str,
) -> SlideRecord:
    """Return where µm are on the image: as it states, as the user says, or by the size of the nuclei."""
    from stdistill._table.he.place import assume_place

    if mpp is not None:
        check_positive(mpp, "mpp")
    if known is not None:
        if mpp is not None and abs(mpp / (known.mpp or mpp) - 1) > SAME:
            msg = (
                f"mpp={mpp} was given, but {image_key!r} has {known.mpp:.4g} µm per pixel. Leave mpp= out, or read the "
                "slide anew with sd.pp.read_slide(mpp=…)."
            )
            raise ValueError(msg)
        return known
    if mpp is not None:
        return assume_place(sdata, image_key, mpp)
    from stdistill._features.nuclei import estimate_level_mpp
    from stdistill._nuclei.density import TYPICAL_UM
    from stdistill._nuclei.methods import load_method
    from stdistill._training.state import own_torch_state

    with own_torch_state():
        find = load_method("unet")
    estimated = estimate_level_mpp(levels[0], find, background=background_color(levels), tissue=tissue.mask)
    if estimated is None:
        msg = (
            f"The image {image_key!r} does not state its µm per pixel, and no nuclei were found on it to estimate that "
            "from: give mpp=."
        )
        raise NothingSeenError(msg)
    warn(
        f"The image {image_key!r} does not state its µm per pixel. {estimated:.3g} is estimated from its nuclei, taken "
        f"to measure {TYPICAL_UM:.0f} µm ({TYPICAL_UM / estimated:.0f} px): give mpp= where you know it."
    )
    return assume_place(sdata, image_key, estimated, "estimated")


def _find(
    levels: list[SlideLevel],
    tissue: Tissue,
    place: SlideRecord,
    method: str,
    weights: str | None,
    device: str | None,
    store: str | Path | None,
    resume: bool,
) -> tuple[NucleusTable, dict[str, Any]]:
    """Find nuclei, and say how."""
    import shapely

    from stdistill._features.nuclei import WORKING_MPP, find_on_level, hash_level
    from stdistill._nuclei.methods import METHODS, load_method
    from stdistill._nuclei.network import WEIGHTS
    from stdistill._nuclei.store import NucleusStore
    from stdistill._support.files import digest, digest_file
    from stdistill._table.he.nuclei import COLUMNS, NucleusTable
    from stdistill._training.devices import torch_device
    from stdistill._training.state import own_torch_state

    if method in METHODS and weights is not None:
        msg = f"weights= go with a network of another package; {method!r} takes none."
        raise ValueError(msg)
    with own_torch_state():
        find = load_method(method, weights=weights, device=torch_device(device or "auto"))
    mpp = float(place.mpp or 0)
    level = level_for(levels, WORKING_MPP / mpp)
    how = {"method": method, "weights": digest_file(WEIGHTS)[:16] if method == "unet" else weights}
    fingerprint = {
        "image": hash_level(level),
        "mpp": mpp,
        "tissue": digest(repr(tissue.mask.shape), tissue.mask)[:16],
        **how,
        "code": CODE,
    }
    opened = NucleusStore.opened(Path(store).expanduser(), fingerprint, resume=resume) if store else nullcontext()
    with opened as kept:
        found = find_on_level(
            level,
            mpp * float(level.factor.mean()),
            find,
            background=background_color(levels),
            tissue=tissue.mask,
            store=kept,
        )
    centroids = found.centroids * level.factor
    inside = tissue.contains(centroids)
    if not inside.any():
        where = "on its tissue" if inside.size or tissue.outlines is not None else "on what is stained of it"
        msg = (
            f"No nuclei were found on the image {place.image_key!r} {where} ({tissue.mask.mean():.1%} of it) at "
            f"{mpp:.3g} µm per pixel by {method!r}. Is it an H&E, and are the µm per pixel right?"
        )
        raise NothingSeenError(msg)
    found = found[inside]
    outlines = shapely.transform(found.polygons, lambda points: points * level.factor)
    return (
        NucleusTable(outlines, centroids[inside], {name: getattr(found, name) for name in COLUMNS}),
        how | {"level_factor": float(level.factor.mean())},
    )


def _take(
    nuclei: Source,
    unit: Literal["px", "um"],
    in_bounds: bool | None,
    levels: list[SlideLevel],
    tissue: Tissue,
    place: SlideRecord,
) -> tuple[NucleusTable, dict[str, Any]]:
    """Take given nuclei, measure them, and say how."""
    import shapely

    from stdistill._features.nuclei import WORKING_MPP, measure_haematoxylin
    from stdistill._formats.outlines import read_outlines
    from stdistill._nuclei.given import outline_measures
    from stdistill._table.he.nuclei import COLUMNS, POINT_RADIUS_UM, NucleusTable

    given, in_bounds = _to_pixels(read_outlines(nuclei, unit), in_bounds, levels, tissue, place)
    centroids = given.centers
    inside = tissue.contains(centroids)
    if not inside.any():
        msg = f"None of the {len(inside)} given nuclei lies within the outlines of the tissue."
        raise ValueError(msg)
    outlines, centroids, ids = given.geometries[inside], centroids[inside], given.ids[inside]
    mpp = float(place.mpp or 0)
    _warn_of_chance(levels, centroids, mpp)
    discs = outlines
    if np.isnan(given.median_diameter):
        measures = [np.full(len(outlines), np.nan)] * 3
        discs = shapely.buffer(outlines, POINT_RADIUS_UM / mpp, quad_segs=4)
    else:
        area, eccentricity, solidity = outline_measures(outlines)
        measures = [area * mpp**2, eccentricity, solidity]
    level = level_for(levels, WORKING_MPP / mpp)
    on_level = shapely.transform(discs, lambda points: points / level.factor)
    haematoxylin = measure_haematoxylin(level, on_level, background=background_color(levels))
    columns = dict(zip(COLUMNS, [*measures, haematoxylin], strict=True))
    source = str(nuclei) if isinstance(nuclei, str | Path) else type(nuclei).__name__
    how = {"nuclei": source, "nuclei_unit": unit, "in_bounds": in_bounds}
    return NucleusTable(outlines, centroids, columns, ids), how


def _warn_of_chance(levels: list[SlideLevel], centroids: Float64s, mpp: float) -> None:
    """Warn when given nuclei lie on tissue, but no more of them on nuclei than by chance."""
    from stdistill._slide.registration import MIN_SHARE_ON_NUCLEI, share_on_nuclei

    share = share_on_nuclei(levels, centroids, mpp)
    if share is not None and share < MIN_SHARE_ON_NUCLEI:
        warn(
            f"The given nuclei do not seem to lie on those of the image: {share:.0%} of them are darker than the "
            "tissue around, half are by chance. Is a label image transposed (give labels.T) or mirrored, or are they "
            "of another slide? Look at them over the image before they are used."
        )


def _to_pixels(
    given: Outlines, in_bounds: bool | None, levels: list[SlideLevel], tissue: Tissue, place: SlideRecord
) -> tuple[Outlines, bool]:
    """Bring given nuclei to pixels of the image, and raise unless they fit it; say what would fit."""
    import shapely

    from stdistill._nuclei.given import check_shape, fit_of

    if given.shape is not None:
        check_shape(given.shape, levels[0].shape, place.bounds)
    um_to_px = np.asarray(place.um_to_px)
    corner = (0, 0) if place.bounds is None else place.bounds[:2]
    in_um = given._replace(
        geometries=shapely.transform(given.geometries, lambda points: apply_affine(um_to_px, points))
    )
    frames = {("px", False): given, ("um", False): in_um}
    if any(corner):
        frames[("px", True)] = given.move(*corner)
    shape, mpp = levels[0].shape, float(place.mpp or 0)
    fits = {
        frame: fit_of(moved.centers, moved.median_diameter, mpp, shape, tissue.mask) for frame, moved in frames.items()
    }
    is_moved = bool(in_bounds) and given.unit == "px" and any(corner)
    if in_bounds is None and given.unit == "px" and any(corner):
        is_moved = fits["px", True].on_image * fits["px", True].on_tissue > BETTER + (
            fits["px", False].on_image * fits["px", False].on_tissue
        )
        logger.info(
            "The given nuclei are taken to count from the corner of the %s.", "slide's bounds" if is_moved else "image"
        )
    chosen = (given.unit, is_moved)
    faults = fits[chosen].faults()
    if faults:
        others = [
            f'nuclei_unit="{name}"' + (f", in_bounds={moved}" if name == "px" and any(corner) else "")
            for (name, moved), fit in fits.items()
            if (name, moved) != chosen and not fit.faults()
        ]
        advice = f"They would fit with {' or '.join(others)}." if others else "Are they of this slide?"
        msg = f"The {len(given.ids)} given nuclei do not fit the image as {given.unit!r}: {', '.join(faults)}. {advice}"
        raise ValueError(msg)
    return frames[chosen], is_moved
