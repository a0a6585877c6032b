"""The one place that converts between cell centres (µm) and pixels of the H&E image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._slide.affine import affine_scale, apply_affine, check_affine, fit_affine, inside
from stdistill._slide.pyramid import MAX_MPP_DISAGREEMENT
from stdistill._support.arrays import Floats
from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.checks import get_centers, get_table, is_spatialdata
from stdistill._table.he.centroids import element_centroids
from stdistill._table.he.images import get_image, image_shape
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.records import read_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

SAME_UM = 0.5
"""An element whose centroids lie this near to the centres (median, µm) is in µm itself."""
MIN_CELLS_TO_FIT = 10
"""Fewer cells than this do not tell the unit of an element that is not in µm."""
MAX_MISFIT_UM = 5.0
"""A table whose centres lie further than this from its element's (median, µm) annotates another element."""
SAME_PX = 1.0
"""Coordinate systems that put no cell further apart than this, in pixels of the H&E, align them in the same way."""


@dataclass(frozen=True)
class HEFrame:
    """Where the cells of one slide lie on its H&E image.

    Pixels are those of the full-resolution level, as (x, y); pixel *i* covers [i, i + 1), as in spatialdata.
    """

    image_key: str
    """Name of the image."""
    cells: npt.NDArray[np.int64]
    """Rows of the table that lie on this slide."""
    um_to_px: Floats
    """Affine map (3 × 3) of cell centres in µm to pixels."""
    shape: tuple[int, int]
    """Height and width of the image in pixels."""
    region: str | None = None
    """The element that the table annotates; `None` for a table alone."""
    element_to_px: Floats | None = None
    """Affine map (3 × 3) of the element's own coordinates to pixels."""

    @property
    def mpp(self) -> float:
        """Resolution of the image in µm per pixel."""
        return 1 / affine_scale(self.um_to_px)

    def to_px(self, um: Floats) -> Floats:
        """Map centres (n, 2) in µm to pixels."""
        return apply_affine(self.um_to_px, um)

    def to_um(self, px: Floats) -> Floats:
        """Map pixels (n, 2) to µm."""
        return apply_affine(np.linalg.inv(self.um_to_px), px)

    def contains(self, px: Floats) -> npt.NDArray[np.bool_]:
        """Tell which pixels (n, 2) lie on the image."""
        return inside(px, self.shape)

    def native_crop_px(self, crop_px: int, mpp: float | None) -> int:
        """Side, in pixels of the image, of a crop that shows `crop_px` pixels of `mpp` µm (`None`: native)."""
        return crop_px if mpp is None else max(1, round(crop_px * mpp / self.mpp))


def he_frames(
    data: AnnData | SpatialData,
    *,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> list[HEFrame]:
    """Find where the cells of `data` lie on H&E images: one frame per region that the table annotates.

    Parameters
    ----------
    data
        A SpatialData, whose transformations say where everything lies. An AnnData has none; the frame that
        :func:`stdistill.pp.read_xenium` recorded in it is used.
    image_key
        Name of the H&E image, or a mapping of each region to its image.
    coordinate_system
        The one in which they are aligned; not needed where all that they share align them in the same way.
    table_key
        Name of the table of a SpatialData.

    Raises
    ------
    KeyError
        When the table, the image, the annotated element or the coordinate system is not there.
    ValueError
        When image and element share no coordinate system, or several that disagree; when the image is sheared or
        stretched relative to the cells; or when the cell centres in µm do not follow the annotated element.
    """
    table = get_table(data, table_key)
    if not is_spatialdata(data):
        if coordinate_system is not None:
            msg = f"coordinate_system={coordinate_system!r} is one of a SpatialData; an AnnData has none."
            raise ValueError(msg)
        return [_recorded_frame(table)]
    from spatialdata.models import get_table_keys

    centers = get_centers(table)
    if not table.uns.get("spatialdata_attrs"):
        msg = (
            f"The table {table_key!r} does not say of which element its cells are, as after anndata.concat: its "
            '.uns["spatialdata_attrs"] is gone. Name the element and the columns of .obs, sdata[table_key] = '
            "spatialdata.models.TableModel.parse(adata, region=..., region_key=..., instance_key=...); there are the "
            f"elements {sorted({**data.shapes, **data.labels})}."
        )
        raise ValueError(msg)
    regions, region_key, instance_key = get_table_keys(table)
    frames = []
    for region in [regions] if isinstance(regions, str) else regions:
        key = image_key if isinstance(image_key, str) else _image_of(region, image_key)
        cells = np.flatnonzero(table.obs[region_key].astype(object).to_numpy() == region)
        if not len(cells):  # all of them were filtered out
            continue
        image = get_image(data, key)
        element = _get_element(data, region)
        native_to_px = map_to_pixels(element, image, coordinate_system, names=(region, key))
        instances = table.obs[instance_key].to_numpy()[cells]
        _check_once(instances, region)
        um_to_native = _um_to_native(element, instances, centers[cells], region)
        element_to_px = _the_only_map(native_to_px, um_to_native, centers[cells], names=(region, key))
        matrix = element_to_px @ um_to_native
        check_affine(matrix, f"The map of the cells of {region!r} to the pixels of {key!r}")
        frame = HEFrame(key, cells, matrix, image_shape(image), region=region, element_to_px=element_to_px)
        _check_against_record(frame, table)
        frames.append(frame)
    return frames


def cell_pixels(
    data: AnnData | SpatialData,
    *,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> pd.DataFrame:
    """Find the pixels of the cells, as :func:`stdistill.get.he_pixels` returns them."""
    table = get_table(data, table_key)
    frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    return locate(frames, get_centers(table)).set_index(table.obs_names)


def locate(frames: Sequence[HEFrame], centers: Floats) -> pd.DataFrame:
    """Find the pixels of all cells of a table with these centres; missing for cells of no frame."""
    pixels = np.full((len(centers), 2), np.nan)
    image_keys = np.full(len(centers), None, dtype=object)
    mpp = np.full(len(centers), np.nan)
    on_image = np.zeros(len(centers), dtype=bool)
    for frame in frames:
        pixels[frame.cells] = frame.to_px(centers[frame.cells])
        image_keys[frame.cells] = frame.image_key
        mpp[frame.cells] = frame.mpp
        on_image[frame.cells] = frame.contains(pixels[frame.cells])
    return pd.DataFrame(
        {
            "x": pixels[:, 0],
            "y": pixels[:, 1],
            "image_key": pd.Categorical(image_keys),
            "mpp": mpp,
            "on_image": on_image,
        }
    )


def _check_once(instances: npt.NDArray[Any], region: str) -> None:
    """Raise when several cells are of one outline, as where slides of one name were concatenated."""
    n_twice = len(instances) - len(pd.unique(instances))
    if n_twice:
        twice = pd.Index(instances)[pd.Index(instances).duplicated()][0]
        msg = (
            f"{n_twice} of {len(instances)} cells are of an outline in {region!r} that another cell is of, such as "
            f"{twice!r}: tables were concatenated whose cells are of elements of one name, and would lie on the H&E of "
            "one of them. Pass the SpatialData of each slide, or "
            "put them together with spatialdata.concatenate, which tells their elements apart."
        )
        raise ValueError(msg)


def _check_against_record(frame: HEFrame, table: AnnData) -> None:
    """Compare with what was recorded when this image was read: centres that are not in µm show here."""
    record, mpp = read_slide_record(table), None
    if read_record(table, "tiles") and frame.element_to_px is not None:
        mpp = 1 / affine_scale(frame.element_to_px)  # squares of tiles are in µm
    elif record is not None and (record.image_key, record.shape) == (frame.image_key, frame.shape):
        mpp = record.mpp
    if mpp is not None and abs(frame.mpp / mpp - 1) > MAX_MPP_DISAGREEMENT:
        msg = (
            f"{frame.image_key!r} was read at {mpp:.4f} µm per pixel; by the centres in "
            f'.obsm["{schema.SPATIAL}"] it now has {frame.mpp:.4f}. Are the centres still in µm?'
        )
        raise ValueError(msg)


def _recorded_frame(table: AnnData) -> HEFrame:
    record = read_slide_record(table)
    if record is not None and record.n_cells is not None and table.n_obs > record.n_cells:
        msg = (
            f"The table has {table.n_obs} cells, but its record is of one slide of {record.n_cells}: it was "
            "concatenated. Pass the SpatialData of each slide instead."
        )
        raise ValueError(msg)
    if record is None or record.um_to_px is None or record.shape is None:
        msg = (
            "An AnnData alone does not say where its cells lie on the H&E: pass the SpatialData that holds the "
            "image, or read the slide with sd.pp.read_xenium, which records it."
        )
        raise ValueError(msg)
    return HEFrame(
        image_key=str(record.image_key),
        cells=np.arange(table.n_obs),
        um_to_px=record.um_to_px,
        shape=record.shape,
    )


def _image_of(region: str, image_keys: Mapping[str, str]) -> str:
    if not isinstance(image_keys, Mapping):
        msg = (
            f"image_key must be the name of an image, or a mapping of each region that the table annotates to its "
            f"image, {{{region!r}: …}}; found {image_keys!r}."
        )
        raise TypeError(msg)
    check_key(region, image_keys, "a region named in the mapping", argument="image_key")
    return image_keys[region]


def _get_element(sdata: SpatialData, region: str) -> Any:
    elements = {**sdata.shapes, **sdata.labels}
    hint = (
        "The table annotates an element that is not there: add it, or link the table to another one with "
        "sdata.set_table_annotates_spatialelement."
    )
    check_key(region, elements, "a shapes or labels element", argument="region", hint=hint)
    return elements[region]


def map_to_pixels(
    element: Any, image: Any, coordinate_system: str | None, *, names: tuple[str, str]
) -> dict[str, Floats]:
    """Affine maps of an element's own coordinates to the image's own pixels, by the systems that they share."""
    from spatialdata.transformations import get_transformation

    systems = [get_transformation(e, get_all=True) for e in (element, image)]
    shared = sorted(systems[0].keys() & systems[1].keys(), key=lambda name: (name != "global", name))
    if coordinate_system is not None:
        both = f"a coordinate system of both {names[0]!r} and {names[1]!r}"
        check_key(coordinate_system, shared, both, argument="coordinate_system")
        shared = [coordinate_system]
    if not shared:
        msg = (
            f"{names[0]!r} (in {sorted(systems[0])}) and {names[1]!r} (in {sorted(systems[1])}) share no "
            "coordinate system: align the image with spatialdata.transformations.set_transformation, or give "
            "image_key= a mapping of each region to its image."
        )
        raise ValueError(msg)
    axes = ("x", "y")
    matrices = {}
    for name in shared:
        to_shared = [system[name].to_affine_matrix(input_axes=axes, output_axes=axes) for system in systems]
        matrices[name] = np.linalg.inv(to_shared[1]) @ to_shared[0]
    return matrices


def _the_only_map(
    native_to_px: Mapping[str, Floats], um_to_native: Floats, centers: Floats, *, names: tuple[str, str]
) -> Floats:
    """Return the map of an element to pixels, by whichever system; raise when they put cells at different places."""
    (first, matrix), *others = native_to_px.items()
    low, high = centers.min(axis=0), centers.max(axis=0)
    corners = np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])])  # where affine maps differ most
    corners = apply_affine(um_to_native, corners)
    for other, another in others:
        apart = np.linalg.norm(apply_affine(matrix, corners) - apply_affine(another, corners), axis=1).max()
        if apart > SAME_PX:
            msg = (
                f"{names[0]!r} and {names[1]!r} are both in the coordinate systems {first!r} and {other!r}, which put "
                f"cells up to {apart:,.0f} pixels of {names[1]!r} apart. Name the one in which they are aligned with "
                f"coordinate_system=, or take the other away with "
                f"spatialdata.transformations.remove_transformation(sdata[{names[1]!r}], to_coordinate_system=...)."
            )
            raise ValueError(msg)
    return matrix


def _um_to_native(element: Any, instances: npt.NDArray[Any], centers: Floats, region: str) -> Floats:
    """Affine map of centres in µm to the element's own coordinates, found from the cells that have both.

    Shapes of a Xenium slide are in µm, its labels in pixels, and other platforms and users have their own
    ways. No element says its unit, so the centres themselves are asked. What they answer is a check as well: a
    table that is not linked to its element by the right ids fails here.
    """
    rows, native = element_centroids(element, instances, region)
    if np.median(np.linalg.norm(centers[rows] - native, axis=1)) < SAME_UM:
        return np.eye(3)
    if len(rows) < MIN_CELLS_TO_FIT:
        msg = (
            f"{region!r} is not in µm, and {len(rows)} cells are too few to find its unit; at least "
            f"{MIN_CELLS_TO_FIT} are needed. Let the table annotate shapes in µm, or pass the whole slide."
        )
        raise ValueError(msg)
    matrix = fit_affine(centers[rows], native)
    misfit = np.linalg.norm(apply_affine(matrix, centers[rows]) - native, axis=1) / affine_scale(matrix)
    if np.median(misfit) > MAX_MISFIT_UM:
        msg = (
            f'The centres in .obsm["{schema.SPATIAL}"] do not follow the element {region!r} that the table '
            f"annotates: half of the cells lie more than {np.median(misfit):.0f} µm away from it. "
            "Are the ids in the table those of the element, and the centres in µm?"
        )
        raise ValueError(msg)
    return matrix
