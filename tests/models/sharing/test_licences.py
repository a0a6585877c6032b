"""Whose terms a model is under."""

from __future__ import annotations

from itertools import product

import pytest

from stdistill.encoders._catalogue import CATALOGUE
from stdistill.models.sharing.licences import KNOWN, check_shareable, choose, in_short, strictest

NC_ND, RESEARCH = "CC-BY-NC-ND-4.0", "Apache-2.0 with conditions: research use only"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([NC_ND], NC_ND),
        (["Apache-2.0", NC_ND, "MIT"], NC_ND),
        (["apache-2.0"], "Apache-2.0"),
        (["CC-BY-4.0", "CC-BY-NC-4.0"], "CC-BY-NC-4.0"),
        (["none", "MIT"], "MIT"),
        (
            ["Apache-2.0", RESEARCH],
            RESEARCH,
        ),
        (["CC-BY-SA-4.0", NC_ND], None),  # neither demands all
        (["Apache-2.0", "unknown"], None),
        (["Apache-2.0", None], None),
        (["none"], None),
        ([], None),
    ],
)
def test_the_strictest(names: list[str | None], expected: str | None) -> None:
    found = strictest(names)
    assert (found and found.name) == expected
    found = strictest(names[::-1])
    assert (found and found.name) == expected


def test_every_encoder_here_has_terms_that_are_known() -> None:
    """And where it may not be used commercially, the model may not be either."""
    for encoder in CATALOGUE.values():
        licence = strictest([encoder.licence])
        assert licence is not None, encoder.name
        assert ("non-commercial" in licence.demands) == (not encoder.commercial), encoder.name


def test_the_user_may_be_stricter() -> None:
    assert choose([NC_ND], None).name == NC_ND
    assert choose(["Apache-2.0"], "cc-by-nc-4.0").name == "CC-BY-NC-4.0"
    assert choose([], "MIT").name == "MIT"
    assert choose(["unknown"], "CC-BY-4.0").name == "CC-BY-4.0"
    with pytest.raises(ValueError, match=r"'CC-BY-NC-4\.0' allows more .* does not demand no derivatives"):
        choose([NC_ND], "CC-BY-NC-4.0")
    with pytest.raises(ValueError, match=r"does not demand no derivatives, non-commercial\. .* for 'CC-BY-NC-ND-4\.0'"):
        choose([NC_ND], "MIT")
    with pytest.raises(ValueError, match="allows more"):
        choose([NC_ND, "unknown"], "MIT")  # what is known of one counts


def test_whatever_is_chosen_demands_what_the_ancestors_do() -> None:
    for ancestors in product(KNOWN.values(), repeat=2):
        demands = ancestors[0].demands | ancestors[1].demands
        for given in KNOWN.values():
            try:
                chosen = choose([each.name for each in ancestors], given.name)
            except ValueError:
                assert not demands <= given.demands
            else:
                assert demands <= chosen.demands


def test_none_can_be_computed() -> None:
    with pytest.raises(ValueError, match=r"its encoder is 'unknown', not one known here\. Give one with licence="):
        choose([None], None)
    with pytest.raises(ValueError, match="it learned through no encoder"):
        choose([], None)
    with pytest.raises(ValueError, match="demands all that the others do"):
        choose(["CC-BY-SA-4.0", NC_ND], None)
    with pytest.raises(ValueError, match=r"'WTFPL' is not known here; expected one of CC0-1\.0"):
        choose(["MIT"], "WTFPL")


def test_blocks_of_an_encoder() -> None:
    check_shareable([NC_ND], holds_encoder=False)
    check_shareable(["Apache-2.0"], holds_encoder=True)
    with pytest.raises(ValueError, match=r"CC-BY-NC-ND-4\.0 does not allow to pass these on"):
        check_shareable([NC_ND], holds_encoder=True)


def test_in_short() -> None:
    assert in_short([NC_ND], None) == "CC-BY-NC-ND-4.0: attribution, no derivatives, non-commercial"
    assert in_short(["MIT"], "CC-BY-4.0") == "CC-BY-4.0: attribution"
    assert in_short([NC_ND], "MIT").startswith(NC_ND)  # whatever a card says
    assert in_short(["unknown"], None) == "not known; of its encoders unknown"
    assert in_short([], None) == "not stated"
