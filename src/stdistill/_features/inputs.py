"""What functions that embed an H&E take: which encoders, on what, and where features are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stdistill._support.checks import check_choice, check_integer

if TYPE_CHECKING:
    from stdistill.encoders import Encoder

PRECISIONS = (None, "float32", "bfloat16", "float16")
DEVICES = (None, "cpu", "cuda", "mps")


def check_run(
    *, batch_size: int | None, precision: str | None, device: str | None, devices: Any, num_nodes: int, store: Any
) -> None:
    """Raise when features cannot be computed as it is asked for."""
    if batch_size is not None:
        check_integer(batch_size, "batch_size", minimum=1)
    check_choice(precision, "precision", PRECISIONS)
    check_choice(device, "device", DEVICES)
    if store is None and (devices != 1 or num_nodes != 1):
        msg = "Several devices write to one store: name a folder that all of them reach with store=."
        raise ValueError(msg)


def find_encoders(encoder: str | Encoder | Sequence[str | Encoder], store: str | Path | None) -> list[Encoder]:
    """Return the encoders that are meant; those of a complete store need not be at hand."""
    from stdistill._features.store import FeatureStore, is_finished
    from stdistill.encoders._registry import AUTO, get, resolve

    folder = None if store is None else Path(store).expanduser()
    if folder is None or not is_finished(folder):
        return resolve(encoder)
    if encoder == AUTO:
        encoder = [one["name"] for one in FeatureStore(folder).fingerprint["encoders"]]
    try:
        return resolve(encoder)
    except OSError:
        named = [encoder] if isinstance(encoder, str) or not isinstance(encoder, Sequence) else encoder
        return [get(one) if isinstance(one, str) else one for one in named]


def check_sides(encoders: Sequence[Encoder], side_px: int, advice: str, *, n_along: int = 1) -> None:
    """Raise when crops are too small for an encoder that takes them as they are.

    Parameters
    ----------
    encoders
        The encoders.
    side_px
        Side of what is cut into crops.
    advice
        What to give; ``{}`` stands for the least side that all encoders take.
    n_along
        Crops along the side.
    """
    crop_px = side_px // n_along
    too_small = {one.name: one.min_px for one in encoders if one.input_px is None and (one.min_px or 0) > crop_px}
    if too_small:
        name, least = next(iter(too_small.items()))
        msg = (
            f"The encoder {name!r} takes crops as they are, and of at least {least} px along a side; these have "
            f"{crop_px} px. {advice.format(max(filter(None, too_small.values())) * n_along)} Encoders with an "
            "input_px, as all of timm are, resample crops of any side."
        )
        raise ValueError(msg)


def describe_encoders(encoders: Sequence[Encoder], used: Mapping[str, Any]) -> dict[str, Any]:
    """Describe for a record what features were computed by, and on what: `used`, as of `compute_features`."""
    return {
        "encoder": "+".join(one.name for one in encoders),
        "licence": " + ".join(dict.fromkeys(one.licence for one in encoders)),
        **used,
    }
