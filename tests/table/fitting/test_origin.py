from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import anndata as ad
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdistill._table.fitting.origin import (
    KIND,
    RECORDED,
    TELLS_APART,
    common_origin,
    find_difference,
    known_origin,
    origin_of,
    origin_of_card,
)
from stdistill._table.records import write_record
from stdistill.models.niche.card import ModelCard

NATIVE = {"encoder": "uni2-h", "licence": "CC-BY-NC-ND-4.0", "revision": "sha256-aa", "crop_px": 224, "mpp": 0.27374}


def make_table(key: str = "X_he", *, latent: str | None = None, **he: Any) -> ad.AnnData:
    """A table with the records of features, as the steps write them."""
    table = ad.AnnData(np.zeros((3, 1)), obsm={key: np.zeros((3, 2))})
    if he:
        write_record(table, "embed_he", key_added=key, **he)
    if latent is not None:
        write_record(table, "embed_expression", key_added=key, model_sha256=latent)
    return table


def make_card(**entries: Any) -> ModelCard:
    return ModelCard(
        kind="distillation",
        k=1,
        feature_key="X_he",
        n_features=2,
        radius_um=30.0,
        niches=["0"],
        colors=["#000000"],
        network={},
        **entries,
    )


def test_card_and_table_say_the_same() -> None:
    """What the features of a model are is what its training tables recorded of them."""
    for table in (make_table(**NATIVE), make_table(latent="ab12"), make_table(**NATIVE, stain_normalization="macenko")):
        origin = origin_of(table, "X_he")
        of_card = origin_of_card(make_card(**origin))
        assert of_card.pop(KIND)  # by which features without a record are told; of the table it is in its columns
        assert of_card == origin
    assert origin_of(make_table(**NATIVE), "X_he") == {
        "encoder": "uni2-h",
        "encoder_licence": "CC-BY-NC-ND-4.0",
        "encoder_revision": "sha256-aa",
        "crop_px": 224,
        "mpp": 0.27374,
        "context": None,
        "stain_normalization": None,
    }


def test_of_features_without_a_record_nothing_is_known() -> None:
    table = make_table("X_he", **NATIVE)
    table.obsm["X_mine"] = table.obsm["X_he"]
    assert origin_of(table, "X_mine") == origin_of_card(make_card()) == {}


def test_each_key_has_its_own_origin() -> None:
    table = make_table("X_he", **NATIVE)
    write_record(table, "embed_he", key_added="X_texture", encoder="texture")
    write_record(table, "embed_expression", key_added="X_scVI", model_sha256="ab12")
    assert origin_of(table, "X_texture")["encoder"] == "texture"
    assert origin_of(table, "X_scVI") == {"expression_model_sha256": "ab12"}


@pytest.mark.parametrize(
    ("entry", "other"),
    [
        ("encoder", {"encoder": "uni"}),
        ("encoder_revision", {"revision": "sha256-bb"}),
        ("crop_px", {"crop_px": 448}),
        ("mpp", {"mpp": 0.2808}),  # 2.5 % more
        ("stain_normalization", {"stain_normalization": "macenko"}),
    ],
)
def test_tables_that_may_not_meet(entry: str, other: dict[str, Any]) -> None:
    for tables in permutations([make_table(**NATIVE), make_table(**NATIVE | other), make_table()]):
        with pytest.raises(ValueError, match=rf"'X_he'\] was computed with different {entry} in the .*Use one for all"):
            common_origin(tables, "X_he")


def test_native_pixels_of_two_slides() -> None:
    """Each slide's own alignment gives its µm per pixel: those of one scanner are alike, never equal."""
    slides = [make_table(**NATIVE | {"mpp": mpp}) for mpp in (0.27374, 0.27381, 0.27369)]
    assert common_origin(slides, "X_he")["mpp"] == 0.27374


def test_the_tolerance_does_not_add_up() -> None:
    slides = [make_table(**NATIVE | {"mpp": mpp}) for mpp in (0.270, 0.274, 0.278)]
    for pair in (slides[:2], slides[1:]):
        common_origin(pair, "X_he")
    with pytest.raises(ValueError, match=r"different mpp in the tables: \[0\.27, 0\.278\]"):
        common_origin(slides, "X_he")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_what_one_table_knows_is_kept(order: tuple[int, ...]) -> None:
    tables = [make_table(**NATIVE), make_table(**NATIVE | {"revision": "unknown"}), make_table()]
    assert common_origin([tables[place] for place in order], "X_he") == origin_of(tables[0], "X_he")


def test_latents_of_two_models() -> None:
    assert common_origin([make_table(latent="aa"), make_table(latent="aa"), make_table()], "X_he") == {
        "expression_model_sha256": "aa"
    }
    with pytest.raises(ValueError, match=r"\['aa', 'bb'\]\. Latents .* not comparable: .*concatenated.*model=\.\.\."):
        common_origin([make_table(latent="aa"), make_table(latent="bb")], "X_he")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sha256-aa+unknown", "sha256-aa+unknown", True),
        ("sha256-aa+unknown", "unknown+sha256-cc", True),
        ("sha256-aa+unknown", "sha256-bb+unknown", False),
        ("sha256-aa+sha256-cc", "sha256-aa+sha256-dd", False),
        ("sha256-aa+windows-1", "unknown+windows-1", True),
        ("sha256-aa+windows-1", "sha256-aa+unknown", False),
        ("unknown+windows-1", None, False),
    ],
)
def test_revisions_of_several_encoders(one: str, other: str | None, same: bool) -> None:
    """Those of an earlier version, which say nothing, are not of whole windows."""
    origins = [known_origin({"encoder": "uni2-h+texture", "encoder_revision": each}) for each in (one, other)]
    assert find_difference(*origins) == (None if same else "encoder_revision")


@st.composite
def origins(draw: Callable) -> dict[str, Any]:
    values = {entry: st.sampled_from([None, "a", "b"]) for entry in RECORDED} | {
        "mpp": st.sampled_from([None, 0.25, 0.2501, 0.5]),
        "encoder_revision": st.sampled_from([None, "unknown", "a", "b"]),
    }
    return known_origin(draw(st.fixed_dictionaries(values)))


@given(one=origins(), other=origins())
def test_comparison_is_symmetric_and_needs_both(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert find_difference(one, one) is None
    assert find_difference(one, {}) is None
    entry = find_difference(one, other)
    assert entry == find_difference(other, one)
    if entry is not None:
        assert entry in TELLS_APART
        assert one[entry] != other[entry]
        assert find_difference({key: one[key] for key in one.keys() - {entry}}, other) != entry


def test_features_of_windows_and_of_crops_are_not_trained_on_together() -> None:
    one, other = make_table(encoder="texture", revision="windows-1"), make_table(encoder="texture", revision="unknown")
    with pytest.raises(
        ValueError, match=r"different encoder_revision .*: \['windows-1', 'unknown'\]\. Use one for all"
    ):
        common_origin([one, other], "X_he")
