"""What turns H&E crops into features, and all that is to be known about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from stdistill._support.arrays import Interpolation
from stdistill._support.checks import check_choice, check_integer, check_name

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["float32", "bfloat16", "float16"]

UNKNOWN_REVISION = "unknown"
"""Of weights that do not say which they are."""
BY_WINDOWS = "windows-1"
"""How revisions end of features that were computed by whole windows, which are others than those of crops."""
DENSE = "dense-1"
"""How they end of features that were pooled from the patches of tiles."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An H&E encoder: how its module is built, what it takes, and under which terms.

    It holds no weights: :attr:`load` brings them when features are computed.

    Attributes
    ----------
    name
        Recorded with the features; letters, digits, ``_``, ``-`` and ``.``.
    dim
        Features per crop; `None` when that is known only once it is tried.
    load
        Builds the module on the CPU, in float32 and in evaluation mode. It takes normalised crops
        (b, 3, `input_px`, `input_px`) and gives features (b, `dim`).
    mean, std
        Normalisation of RGB in [0, 1].
    input_px
        Side that the module takes, in pixels; `None`: crops go in as they are.
    resize_px
        Side that crops are resampled to before the centre of `input_px` is cut out; `None`: `input_px`.
    interpolation
        How crops are resampled, ``"bilinear"`` or ``"bicubic"``, antialiased in either case.
    precision
        Arithmetic on a GPU: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    source
        Where the weights are: a repository of the Hugging Face hub, an absolute path, a URL, or ``"random"``; `None`
        when there are none to fetch.
    revision
        Which weights, where known: a hash of their file, which is the same wherever a copy of it comes from. Of an
        encoder without `source` a hash of what `load` builds is taken when it is used.
    licence
        Licence of the weights. A student distilled through them may inherit its terms.
    commercial
        Whether the licence allows commercial use; `None` when unknown.
    gated
        Whether access has to be asked for; `None` when sources disagree.
    n_params
        Number of parameters.
    reference
        Publication or page.
    pooling
        What the features are: class token, with or without the mean of the patch tokens, ….
    windows_from_px
        Side of crops from which on they are not cut: the module's method ``encode_window`` takes a whole window of the
        slide, and where the crops are in it. `None`: each crop is encoded by itself.
    min_px
        Least side of crops that go in as they are, where there is no `input_px`; `None`: any.

    Examples
    --------
    >>> import stdistill as sd
    >>> encoder = sd.encoders.get("texture")
    >>> encoder.dim, encoder.licence
    (276, 'BSD-3-Clause')
    """

    name: str
    dim: int | None
    load: Callable[[], nn.Module]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_px: int | None = None
    resize_px: int | None = None
    interpolation: Interpolation = "bilinear"
    precision: Precision = "float32"
    source: str | None = None
    revision: str | None = None
    licence: str = "unknown"
    commercial: bool | None = None
    gated: bool | None = False
    n_params: int | None = None
    reference: str = ""
    pooling: str = ""
    windows_from_px: int | None = None
    min_px: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        for field in ("dim", "input_px", "resize_px", "n_params", "windows_from_px", "min_px"):
            value = getattr(self, field)
            if value is not None:
                check_integer(value, field, minimum=0 if field == "n_params" else 1)
        if not callable(self.load):
            msg = f"load must be a function that builds the module, found {type(self.load).__name__}."
            raise TypeError(msg)
        for field in ("mean", "std"):
            object.__setattr__(self, field, _check_triple(getattr(self, field), field))
        if min(self.std) <= 0:
            msg = f"std must be positive, found {self.std}."
            raise ValueError(msg)
        if self.resize_px is not None and (self.input_px is None or self.resize_px < self.input_px):
            msg = (
                f"resize_px={self.resize_px} is the side before the centre of input_px is cut out: it needs an "
                f"input_px of at most as many pixels, found {self.input_px}."
            )
            raise ValueError(msg)
        check_choice(self.interpolation, "interpolation", get_args(Interpolation))
        check_choice(self.precision, "precision", get_args(Precision))

    def takes_windows(self, crop_px: int) -> bool:
        """Whether crops of this side are encoded by whole windows."""
        return self.windows_from_px is not None and crop_px >= self.windows_from_px

    def by_crops(self) -> Encoder:
        """Return the encoder that takes crops whatever their side."""
        return replace(self, windows_from_px=None)

    def dense(self) -> Encoder:
        """Return the encoder that encodes tiles of the slide once, and pools the patches around each cell.

        It is for vision transformers of timm. Tiles as wide as `input_px` overlap, in pixels of the crops' scale, and
        a cell's features are the mean of the patch tokens under a disc as wide as `crop_px`. They are others than those
        of crops, and are recorded as another revision. They depend on what lies up to a tile beyond the disc:
        :meth:`seen_px` says what :func:`stdistill.pp.split_strips` has to keep apart.

        Raises
        ------
        ValueError
            When the encoder takes crops of any side; by its ``load``, when its module gives no patch tokens.

        Examples
        --------
        >>> import stdistill as sd
        >>> encoder = sd.encoders.get("vit_tiny_patch16_224", weights="random").dense()
        >>> encoder.seen_px(224)
        672
        """
        if self.input_px is None:
            msg = (
                f"The encoder {self.name!r} cannot be dense: it takes crops of any side, and has no input_px, which is "
                "the side of the tiles. Dense features are the patch tokens of a vision transformer of timm."
            )
            raise ValueError(msg)
        same = {field.name: getattr(self, field.name) for field in fields(Encoder)}
        changed = {
            "dim": None,  # that of a patch token, which not every encoder's features are as wide as
            "load": partial(_load_dense, self, self.input_px),
            "resize_px": None,
            "pooling": "mean of the patch tokens under a disc",
            "windows_from_px": 1,
        }
        return DenseEncoder(**same | changed, of=self)

    def seen_px(self, crop_px: int) -> int:
        """Return the side of the square around a cell that its features depend on, in pixels of the crops' scale."""
        return crop_px

    def computed_by(self, crop_px: int) -> str | None:
        """Return how features are marked that are not those of crops one by one; `None` of these."""
        return BY_WINDOWS if self.takes_windows(crop_px) else None

    def revision_of_features(self, crop_px: int) -> str | None:
        """Return what is recorded of features: which weights, and the mark of :meth:`computed_by`."""
        return "-".join(filter(None, (self.revision, self.computed_by(crop_px)))) or None


@dataclass(frozen=True, kw_only=True)
class DenseEncoder(Encoder):
    """What :meth:`Encoder.dense` gives."""

    of: Encoder
    """The encoder whose network it is."""

    def by_crops(self) -> Encoder:
        """Return the encoder that takes crops."""
        return self.of.by_crops()

    def dense(self) -> Encoder:
        """Return itself."""
        return self

    def seen_px(self, crop_px: int) -> int:
        """Return the side of the disc and of a tile on either side of it, which is a little more than is seen."""
        return crop_px + 2 * (self.input_px or 0)

    def computed_by(self, crop_px: int) -> str | None:
        """Return how its features are marked, whatever the side."""
        return DENSE


def _load_dense(encoder: Encoder, tile_px: int) -> nn.Module:
    from stdistill.encoders._dense import DensePatches, find_patches

    return DensePatches(find_patches(encoder.load(), encoder.name), tile_px, encoder.name)


def _check_triple(values: tuple[float, float, float], argument: str) -> tuple[float, float, float]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(math.isfinite(number) for number in numbers):
        msg = f"{argument} must be three finite numbers, one each for red, green and blue in [0, 1]; found {values}."
        raise ValueError(msg)
    return numbers
