from __future__ import annotations

import numpy as np
import pytest

from stdistill._measures.verdict import CAUSES, LIMITS, Verdict, judge, nothing_seen

GOOD = {
    "trusted_share": 1.0,
    "ood_median": 1.0,
    "stain_distance": 2.0,
    "nucleus_um": 7.0,
    "density_ratio": 1.0,
    "mpp_is_estimated": 0.0,
}


def test_usable() -> None:
    found = judge(GOOD)
    assert (found.verdict, found.reasons, str(found)) == ("usable", [], "usable")
    assert (found.measures["verdict"] == "usable").all()
    assert found.measures.loc["nucleus_um", ["found", "usable_from", "usable_to"]].tolist() == [7, 5, 10]
    assert np.isnan(found.measures.loc["stain_distance", "partly_to"])


@pytest.mark.parametrize(
    ("measure", "value", "verdict", "words"),
    [
        ("trusted_share", 0.9, "usable", ""),
        ("trusted_share", 0.89, "partly", "89% of the cells can be trusted"),
        ("trusted_share", 0.49, "not", "49% of the cells"),
        ("ood_median", 1.6, "partly", "1.6 times as far"),
        ("ood_median", 20.0, "partly", "20.0 times as far"),
        ("known_variation", 0.9, "usable", ""),
        ("known_variation", 0.89, "partly", "89% of what neighbourhoods differ by in the H&E"),
        ("known_variation", 0.79, "not", "79% of what"),
        ("ood_is_unknown", 1.0, "partly", "cannot tell"),
        ("stain_distance", 12.0, "partly", "12 degrees"),
        ("nucleus_um", 4.5, "partly", "nuclei measure 4.5 µm"),
        ("nucleus_um", 3.5, "not", "check the µm per pixel"),
        ("nucleus_um", 15.0, "not", "check the µm per pixel"),
        ("density_ratio", 0.3, "partly", "0.3 times as dense"),
        ("density_ratio", 3.1, "partly", "3.1 times as dense"),
        ("mpp_is_estimated", 1.0, "partly", "estimated"),
    ],
)
def test_the_worst_has_the_last_word(measure: str, value: float, verdict: str, words: str) -> None:
    found = judge(GOOD | {measure: value})
    assert found.verdict == verdict
    assert found.measures.loc[measure, "verdict"] == verdict
    assert words in "".join(found.reasons)
    assert len(found.reasons) == (verdict != "usable")


def test_gravest_first() -> None:
    found = judge(GOOD | {"mpp_is_estimated": 1.0, "nucleus_um": 2.0})
    assert found.verdict == "not"
    assert found.reasons[0].startswith("nuclei")
    assert str(found) == f"not: {'; '.join(found.reasons)}"


def test_causes_are_told_of_cells_that_are_not_trusted() -> None:
    """The largest first; those of a few cells not at all, and none where the slide is fine."""
    shares = {"trusted_share": 0.6, "fold_share": 0.01, "pen_share": 0.1, "unfocused_share": 0.3}
    reasons = judge(GOOD | shares).reasons
    assert [reason.split(" of ")[0] for reason in reasons] == ["60%", "30%", "10%"]
    assert "out of focus" in reasons[1]
    assert judge(GOOD | {"pen_share": 0.08}).reasons == []


def test_nothing_seen() -> None:
    found = nothing_seen("It is blank.")
    assert isinstance(found, Verdict)
    assert (found.verdict, found.reasons) == ("not", ["It is blank."])
    assert list(found.measures.columns) == list(judge(GOOD).measures.columns)


def test_limits_lie_within_each_other() -> None:
    for name, limit in LIMITS.items():
        if limit.partly is not None and limit.unusable is not None:
            assert limit.unusable[0] <= limit.partly[0] < limit.partly[1] <= limit.unusable[1], name
        assert "{" in limit.words or name in {"mpp_is_estimated", "ood_is_unknown"}
    assert set(CAUSES) <= set(LIMITS)
