"""How features of another slide must be computed to be those that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from stdistill._slide.pyramid import is_same_mpp
from stdistill._support.warn import warn
from stdistill._table.fitting.inputs import NicheInputs
from stdistill._table.fitting.origin import (
    KIND,
    find_difference,
    known_origin,
    of_another_kind,
    origin_of,
    origin_of_card,
    show,
    tells_of_both,
    ways_of,
)
from stdistill._table.graph import decimals_apart, graph_fingerprint, is_same_radius
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.loadings import find_loadings, is_described, loadings_key
from stdistill._table.records import read_record
from stdistill.encoders import Encoder
from stdistill.encoders._blocks import FINETUNED, with_blocks
from stdistill.encoders._encoder import BY_WINDOWS, DENSE, UNKNOWN_REVISION
from stdistill.encoders._registry import resolve

if TYPE_CHECKING:
    from stdistill.models import AlignmentModel
    from stdistill.models.feature_card import FeatureCard
    from stdistill.models.niche.card import ModelCard


FEW, MANY = 0.5, 2.0
"""Neighbours of a slide over those of the training, beyond which it is warned of (our choice): where every other
nucleus was missed there are half as many, where cells are there twice, twice as many."""


def find_encoders(card: ModelCard | FeatureCard, name: str | Encoder | None = None) -> list[Encoder]:
    """Return the encoders of the model's features, which are at hand and the same.

    Several encoders are joined by ``+`` in the card. They compute features as the model's were: of whole windows,
    dense, or crop by crop. `name` is what they are called on this machine, where it differs, or the encoder itself.

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
        encoders = resolve(name if isinstance(name, Encoder) else (name or card.encoder).split("+"))
    except KeyError as error:
        msg = f"{error.args[0]} Give the name under which the model's features were computed as the encoder."
        raise KeyError(msg) from error
    ways = ways_of(origin_of_card(card))
    encoders = [_computing(one, ways.get(one.name)) for one in encoders]
    found = "+".join(one.name for one in encoders)
    revision = "+".join(one.revision_of_features(card.crop_px) or UNKNOWN_REVISION for one in encoders)
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


def _computing(encoder: Encoder, way: str | None) -> Encoder:
    """Return the encoder that computes features in a way."""
    if way == DENSE:
        return encoder.dense()
    return encoder if way == BY_WINDOWS else encoder.by_crops()


def find_tile_encoders(model: AlignmentModel) -> list[Encoder]:
    """Return the encoders of the features of tiles that an alignment reads, with the blocks that learned with it."""
    source = next(iter(model.card.inputs.values()))  # of all scales the same
    if model.card.finetuned is None:
        return find_encoders(source)
    base = {"encoder": model.card.finetuned["encoder"], "encoder_revision": model.card.finetuned.get("revision")}
    (encoder,) = find_encoders(replace(source, **base))
    return [with_blocks(encoder, model.blocks)]


def embedding_arguments(card: ModelCard | FeatureCard, encoders: list[Encoder], cells: AnnData) -> dict[str, Any]:
    """Return the arguments of :func:`stdistill.pp.embed_he` that give the model's features of these cells' slide."""
    slide = read_slide_record(cells)
    return {
        "encoder": encoders,
        "crop_px": card.crop_px,
        "mpp": find_mpp(None if slide is None else slide.mpp, card.mpp or 0),  # known, or no encoder was found
        "context": card.context,
        "key_added": card.feature_key,
    }


def find_mpp(native: float | None, trained: float) -> float | None:
    """Return the µm per pixel to resample to; `None`, the image's own pixels, where they are as large."""
    return None if native is not None and is_same_mpp(native, trained) else trained


def name_features(sources: Sequence[ModelCard | FeatureCard], use_rep: str | Sequence[str] | None) -> list[str]:
    """Return the keys of the features that a model is to read, one for each of its own."""
    own = [source.feature_key for source in sources]
    if use_rep is None:
        return own
    given = [use_rep] if isinstance(use_rep, str) else list(use_rep)
    if len(given) != len(own):
        msg = f"The model reads {len(own)} kinds of features ({', '.join(own)}), and use_rep names {len(given)}."
        raise ValueError(msg)
    if given != own and sorted(given) == sorted(own):
        msg = f"use_rep must name the features in the order in which the model reads them: {', '.join(own)}."
        raise ValueError(msg)
    return given


def check_card(table: AnnData, use_rep: str, card: ModelCard | FeatureCard) -> bool:
    """Raise unless the features are computed as the model's were; return whether it is known of both how that was."""
    found, expected = origin_of(table, use_rep), origin_of_card(card)
    entry = find_difference(found, expected)
    n_features = table.obsm[use_rep].shape[1]
    if entry in (None, KIND) and n_features != card.n_features:
        msg = f".obsm[{use_rep!r}] has {n_features} features per cell; the model was trained on {card.n_features}."
        raise ValueError(msg)
    if entry is None:
        is_of_both = _check_components(table, use_rep, card)
        return is_of_both or tells_of_both(found, expected)
    if entry == KIND:
        msg = (
            f"{of_another_kind(use_rep, found, expected, 'those of the training')} Compute the features as the model's "
            f"were{'' if card.encoder is None else f', by {card.encoder!r} from crops of {card.crop_px} px'}."
        )
        raise ValueError(msg)
    names = (card.encoder or "").split("+")
    remedies = {
        "encoder": f"Compute the features with sd.pp.embed_he(encoder={names if len(names) > 1 else names[0]!r}).",
        "encoder_revision": (
            "Compute the features with the same file of weights: weights= of sd.encoders.get reads a copy of it. (Of "
            "one model, .bin and .safetensors are two files.)"
        ),
        "crop_px": f"Compute the features with sd.pp.embed_he(crop_px={card.crop_px}).",
        "mpp": f"Compute the features with sd.pp.embed_he(mpp={show(card.mpp)}).",
        "context": f"Compute the features with sd.pp.embed_he(context={card.context}).",
        "stain_normalization": "Compute the features with sd.pp.embed_he(stain_normalization=...).",
        "expression_model_sha256": (
            "Compute the latent with the scVI model of the training, which sd.pp.embed_expression(save=...) keeps: "
            "sd.pp.embed_expression(model=...)."
        ),
    }
    if entry == "encoder_revision" and names[0].endswith(FINETUNED):
        remedies[entry] = "They are of an encoder that learned with another model: delete them, to get this one's."
    elif entry == "encoder_revision" and ways_of(found) != ways_of(expected):
        remedies[entry] = _remedy({*ways_of(found).values(), *ways_of(expected).values()})
    msg = (
        f".obsm[{use_rep!r}] was computed with {entry} {show(found.get(entry, UNKNOWN_REVISION))}, the "
        f"model was trained on {show(expected.get(entry, UNKNOWN_REVISION))}. {remedies[entry]}"
    )
    raise ValueError(msg)


def _check_components(table: AnnData, use_rep: str, card: ModelCard | FeatureCard) -> bool:
    """Raise when features are other principal components than the model's; return whether it is known."""
    is_same = is_described(find_loadings(table, use_rep), card.loadings)
    if is_same is False:
        key = loadings_key(use_rep)
        msg = (
            f".obsm[{use_rep!r}] are other principal components than those of the training: their loadings "
            f"(.varm[{key!r}]) are of this table's own, and the first of one table is not the first of another. "
            'Compute them together, joined = anndata.concat([training, slide], label="slide"), then sc.pp.pca(joined), '
            "and fit the model to the rows of the training. Of a slide that was projected onto the components of the "
            f"training say so: slide.varm[{key!r}] = training.varm[{key!r}]."
        )
        raise ValueError(msg)
    return is_same is not None


def warn_of_unknown_features(use_rep: str) -> None:
    """Warn that nobody knows whether features that were fitted to cells are those that a model was trained on."""
    warn(
        f"Nothing tells by what .obsm[{use_rep!r}] was computed, here or in the training: whether its columns mean "
        "what they meant there is not known. They do where it was computed for both slides in one go, or by one saved "
        "model; where each slide had its own (a latent of scVI, principal components, Harmony), what is predicted "
        "means nothing. sd.pp.embed_expression records it, and with model= applies a saved one to other slides."
    )


def _remedy(ways: set[str]) -> str:
    """Say what to do where features were computed in several ways, crop by crop or in those that are given."""
    if DENSE in ways:
        return (
            "Some are dense, others are not: compute them once more, or train once more. Of encoder = "
            "sd.encoders.get(...), encoder.dense() pools the patches of tiles, encoder.by_crops() goes crop by crop."
        )
    return (
        "Some were computed by whole windows, others crop by crop, as by an earlier version: compute them once "
        "more, or train once more. Of encoder = sd.encoders.get(...), encoder.by_crops() goes crop by crop."
    )


def check_radius(found_um: float, expected_um: float) -> None:
    """Raise unless the neighbourhoods are as wide as the model's."""
    if is_same_radius(found_um, expected_um):
        return
    digits = decimals_apart(found_um, expected_um)
    msg = (
        f"The neighbourhoods have a radius of {found_um:.{digits}f} µm, those of the model "
        f"{expected_um:.{digits}f}. Make them again with sd.pp.neighborhoods(radius_um=model.radius_um)."
    )
    raise ValueError(msg)


def warn_of_density(table: AnnData, inputs: NicheInputs, card: ModelCard) -> None:
    """Warn when cells have far fewer or more neighbours than those of the training.

    The number is that of when the neighbourhoods were made: of those that were lost since it is told elsewhere.
    """
    if not card.n_neighbors or not inputs.eligible.any():
        return
    made = {} if graph_fingerprint(table) is None else read_record(table, "neighborhoods")
    found = float(made.get("mean_neighbors", np.diff(inputs.indptr)[inputs.eligible].mean()))
    ratio = found / card.n_neighbors
    if not FEW <= ratio <= MANY:
        warn(
            f"Cells of this slide have {found:.1f} neighbours within {card.radius_um:.1f} µm on average, {ratio:.2g} "
            f"times the {card.n_neighbors:.1f} of the training. Nuclei that were missed or split, cells that are there "
            'twice, centres in another unit (.obsm["spatial"] is in µm) or other tissue do that, and niches may be '
            "wrong: look at the cells beside the H&E before use, and run sd.pp.neighborhoods again when they are put "
            "right."
        )
