"""What an alignment says of itself to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stdistill.models.sharing.description import Description, count, describe_crops, find_ancestors, known

if TYPE_CHECKING:
    from stdistill.models.alignment.card import AlignmentCard


def describe(card: AlignmentCard) -> Description:
    """Describe an alignment."""
    source = next(iter(card.inputs.values()))  # one encoder has computed those of all scales
    finetuned = card.finetuned
    tissue = {"tissue": card.tissue, "slides": card.images}
    return Description(
        title=f"an alignment of H&E and expression at {len(card.scales)} scale{'s' if len(card.scales) > 1 else ''}",
        purpose="It puts tiles of a slide, by their H&E and by what their cells express, into one space.",
        sections={
            "Trained on": known(
                card.tissue,
                None if card.images is None else count(len(card.images), "H&E image"),
                f"tiles of {card.tile_um:.0f} µm",
            ),
            "Reads": [
                *describe_crops(source),
                f"at the scales {', '.join(card.scales)}",
                f"{card.cells.n_features} features of {card.cells.feature_key} per cell",
            ],
            "Encoder blocks": []
            if finetuned is None
            else [f"the last {finetuned.get('blocks')} blocks of the encoder learned too, and are among the weights"],
        },
        use="sd.tl.predict(slide, model)  # with tiles, as sd.pp.tiles and sd.pp.embed_tiles write them",
        class_name="AlignmentModel",
        ancestors=find_ancestors(
            source.encoder if finetuned is None else str(finetuned["encoder"]),
            source.encoder_licence,
            source.encoder_revision if finetuned is None else finetuned.get("revision"),
        ),
        holds_encoder=finetuned is not None,
        unrecorded=[name for name, value in tissue.items() if value is None]
        + ["held-out retrieval (sd.tl.retrieval measures it)"],
    )
