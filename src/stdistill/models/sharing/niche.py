"""What a niche model says of itself to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

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
    from stdistill.models.niche.card import ModelCard
    from stdistill.models.usual import UsualFeatures

TYPES = 3
"""Cell types that are named of a niche."""
CELLS = {"test": "test cells, which it never saw", "held-out": "held-out cells, by which its training was stopped"}


def describe(card: ModelCard, usual: UsualFeatures | None) -> Description:
    """Describe a teacher or a student."""
    is_student = card.kind == "distillation"
    sections = {
        "Trained on": _training(card),
        "Reads": [
            *describe_crops(card),
            f"cells within {card.radius_um:.1f} µm"
            + ("" if card.max_tokens is None else f", at most {card.max_tokens}"),
            *([BY_SLIDE] * (card.standardize == "slide")),
        ],
        "Agreement": _agreement(card),
        "Confidence": _confidence(card),
        "Unusual": _unusual(usual),
    }
    parts = _parts(card)
    looked_for: dict[str, object] = {
        "tissue": card.tissue,
        "slides": card.n_slides,
        "cell types of the niches": card.cell_types,
        "sizes of the niches": card.sizes,
        "encoder": card.encoder or card.expression_model_sha256,
    }
    if is_student:
        confidence = card.calibration or card.training.get("ece_after")
        looked_for |= {"held-out agreement": card.agreement, "calibration": confidence, "OOD reference": usual}
    what = "tissue niches from H&E" if is_student and card.expression_model_sha256 is None else "tissue niches"
    reads = "the H&E of a cell and its neighbours" if is_student else "what a cell and its neighbours express"
    return Description(
        title=f"{'a student' if is_student else 'a teacher'} of {card.k} {what}",
        purpose=f"It tells in which of {card.k} tissue niches a cell lies, by {reads}.",
        sections={heading: facts for heading, facts in sections.items() if facts},
        use="sd.tl.predict(slide, model)  # a table, or a slide as sd.pp.read_slide reads it",
        class_name="NicheModel",
        command=is_student and card.encoder is not None,
        parts=parts,
        ancestors=[]
        if card.encoder is None and card.expression_model_sha256 is not None
        else find_ancestors(card.encoder, card.encoder_licence, card.encoder_revision),
        unrecorded=[name for name, value in looked_for.items() if value is None],
    )


def _training(card: ModelCard) -> list[str]:
    counts = card.training
    held_out = counts.get("n_validation_cells")
    return known(
        card.tissue,
        count(card.n_slides, "slide"),
        count(counts.get("n_training_cells"), "cell"),
        f"{held_out:,} more held out to stop by" if held_out else None,
        None if card.teacher is None else f"taught by {card.teacher!r}",
        count(counts.get("n_epochs"), "epoch"),
    )


def _agreement(card: ModelCard) -> list[str]:
    found = card.agreement
    if found is None:
        return []
    cells = CELLS.get(str(found["cells"]), "cells")
    return [
        f"ARI {found['ari']:.2f} and NMI {found['nmi']:.2f} with its teacher (1: the same niches)",
        f"on {found['n_cells']:,} {cells}",
    ]


def _confidence(card: ModelCard) -> list[str]:
    found, test = card.calibration, card.training.get("ece_after")
    return known(
        None
        if found is None
        else f"calibrated on {found['n_cells']:,} held-out cells, there off by {found['ece_after']:.1%} on average",
        None if test is None else f"off by {test:.1%} on average on test cells",
    )


def _unusual(usual: UsualFeatures | None) -> list[str]:
    if usual is None:
        return []
    return [
        "cells unlike the training are told by their features (1 is usual)",
        f"one held-out cell of a hundred is above {usual.rare:.2f}",
    ]


def _parts(card: ModelCard) -> list[Part]:
    total = sum(card.sizes or [])
    found = []
    for number, (name, color) in enumerate(zip(card.niches, card.colors, strict=True)):
        size = None if card.sizes is None else card.sizes[number]
        types: dict[str, Any] = {} if card.cell_types is None else card.cell_types[number]
        consists_of = ", ".join(f"{cell_type} {share:.0%}" for cell_type, share in types.items())
        found.append(Part(name, color, size, size / total if size is not None and total else None, consists_of))
    return found


def commonest(composition: pd.DataFrame, niches: Sequence[str]) -> list[dict[str, float]]:
    """Return the commonest cell types of each niche, with their shares; a niche without cells has none."""
    composition = composition.rename(index=str)
    missing = [name for name in niches if name not in composition.index]
    if missing:
        msg = (
            f"The composition has no row for {', '.join(map(repr, missing))}; expected one for each niche of the "
            'model, as sd.tl.composition(data, niche_key="student_niche", cell_type_key=…) returns.'
        )
        raise ValueError(msg)
    found = []
    for name in niches:
        shares = sorted(composition.loc[name].dropna().to_dict().items(), key=lambda each: -each[1])
        found.append({str(cell_type): float(share) for cell_type, share in shares[:TYPES] if share > 0})
    return found
