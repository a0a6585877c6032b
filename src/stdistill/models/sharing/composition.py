"""What a composition model says of itself to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stdistill.models.sharing.description import (
    BY_SLIDE,
    Description,
    Part,
    count,
    describe_crops,
    find_ancestors,
    known,
)

if TYPE_CHECKING:
    from stdistill.models.composition.card import CompositionCard

METHODS = {"mlp": "a network", "ridge": "a ridge regression"}


def describe(card: CompositionCard) -> Description:
    """Describe a composition model."""
    sources = card.inputs
    reads = [text for source in sources for text in describe_crops(source)]
    if card.radius_um is not None:
        reads.append(f"their means within {card.radius_um:.1f} µm")
    if card.standardize == "slide":
        reads.append(BY_SLIDE)
    return Description(
        title=f"{METHODS.get(card.method, card.method)} that tells {len(card.types)} cell types from H&E",
        purpose="It tells from the H&E of a place how much of each cell type is there.",
        sections={
            "Trained on": known(
                card.tissue,
                None if card.images is None else count(len(card.images), "H&E image"),
                f"taught by {card.target_key!r}",
                f"{card.n_members} networks averaged" if card.n_members > 1 else None,
            ),
            "Reads": reads,
        },
        use="sd.tl.predict(slide, model)  # a table, or a slide as sd.pp.read_slide reads it",
        class_name="CompositionModel",
        parts_name="Cell types",
        parts=[Part(name) for name in card.types],
        ancestors=[
            ancestor
            for each in sources
            if each.encoder is not None or each.expression_model_sha256 is None
            for ancestor in find_ancestors(each.encoder, each.encoder_licence, each.encoder_revision)
        ],
        unrecorded=[name for name, value in {"tissue": card.tissue, "slides": card.images}.items() if value is None]
        + ["held-out scores (sd.tl.cross_validate measures them)"],
    )
