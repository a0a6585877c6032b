"""How features of another slide must be computed to be those that a model was trained on."""

from __future__ import annotations

from typing import Any

from anndata import AnnData

from stdistill._slide.scale import is_same_mpp
from stdistill._table.fitting.origin import find_difference, known_origin, origin_of_card
from stdistill._table.he.slide_record import read_slide_record
from stdistill.encoders import Encoder
from stdistill.encoders._encoder import UNKNOWN_REVISION
from stdistill.encoders._registry import resolve
from stdistill.models.niche.card import ModelCard


def find_encoders(card: ModelCard, name: str | None = None) -> list[Encoder]:
    """Return the encoders of the model's features, which are at hand and the same.

    Several encoders are joined by ``+`` in the card. `name` is what they are called on this machine, where it differs.

    Raises
    ------
    KeyError
        When there is no encoder of the name.
    ValueError
        When the model does not know how its features were computed, or the encoder has other weights.
    """
    if card.encoder is None or card.crop_px is None or card.mpp is None:
        msg = (
            f"The model does not know how its features {card.feature_key!r} were computed (encoder {card.encoder}, "
            f"crops of {card.crop_px} px, {card.mpp} µm per pixel). Compute those of the slide as you did then, and "
            f'give them as .obsm["{card.feature_key}"].'
        )
        raise ValueError(msg)
    if card.stain_normalization is not None:
        msg = (
            "The model's H&E was stain-normalised: compute the features of the slide with "
            "sd.pp.embed_he(stain_normalization=…) as you did then."
        )
        raise ValueError(msg)
    try:
        encoders = resolve((name or card.encoder).split("+"))
    except KeyError as error:
        msg = f"{error.args[0]} Give the name under which the model's features were computed as the encoder."
        raise KeyError(msg) from error
    found = "+".join(one.name for one in encoders)
    revision = "+".join(one.revision or UNKNOWN_REVISION for one in encoders)
    difference = find_difference(known_origin({"encoder": found, "encoder_revision": revision}), origin_of_card(card))
    if difference == "encoder":
        msg = f"The encoder is {found!r}; the model was trained on features of {card.encoder!r}."
        raise ValueError(msg)
    if difference == "encoder_revision":
        msg = (
            f"The weights of {found!r} are of revision {revision!r}; the model was trained on features of "
            f"{card.encoder_revision!r}."
        )
        raise ValueError(msg)
    return encoders


def embedding_arguments(card: ModelCard, encoders: list[Encoder], cells: AnnData) -> dict[str, Any]:
    """Return the arguments of :func:`stdistill.pp.embed_he` that give the model's features of these cells' slide."""
    slide = read_slide_record(cells)
    return {
        "encoder": encoders,
        "crop_px": card.crop_px,
        "mpp": find_mpp(None if slide is None else slide.mpp, card.mpp or 0),  # known, or no encoder was found
        "key_added": card.feature_key,
    }


def find_mpp(native: float | None, trained: float) -> float | None:
    """Return the µm per pixel to resample to; `None`, the image's own pixels, where they are as large."""
    return None if native is not None and is_same_mpp(native, trained) else trained
