from __future__ import annotations

import re
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd

NICHES = ["tumour", "stroma", "lymphoid", "fat"]


def make(n: int = 16, *, effect: float = 0.0, seed: int = 0) -> ad.AnnData:
    """Slides, every other of them treated; the third niche changes."""
    rng = np.random.default_rng(seed)
    logs = np.log([8, 5, 2, 1]) + rng.normal(0, 0.4, (n, 4))
    treated = np.arange(n) % 2 == 1
    logs[treated, 2] += effect
    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    obs = pd.DataFrame(
        {"group": np.where(treated, "treated", "control")}, index=[f"slide {number}" for number in range(n)]
    )
    cohort = ad.AnnData(shares.astype(np.float32), obs=obs, var=pd.DataFrame(index=NICHES))
    cohort.layers["counts"] = rng.multinomial(rng.integers(500, 20_000, n), shares)
    return cohort


def test_frame() -> None:
    cohort = make(effect=1.5)
    found = sd.tl.compare_niches(cohort, group_key="group")
    assert found["niche"].tolist() == NICHES
    assert found.columns.tolist() == [
        *("niche", "effect", "lower", "upper", "p", "q", "share_control", "share_treated"),
        *("n_control", "n_treated", "n_absent"),
    ]
    assert found["effect"].sum() == pytest.approx(0)
    assert ((found["lower"] < found["effect"]) & (found["effect"] < found["upper"])).all()
    row = found.set_index("niche").loc["lymphoid"]
    assert row["lower"] < 1.5 * 3 / 4 < row["upper"]
    assert row["q"] < 0.01
    assert (found["n_control"] == 8).all()
    shares = cohort.layers["counts"] / cohort.layers["counts"].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["share_treated"], shares[1::2].mean(axis=0))
    assert found.attrs["groups"] == ["control", "treated"]
    assert (found.attrs["model"], found.attrs["unit"], found.attrs["n_patients"]) == ("linear", "slides", 16)
    assert list(cohort.obs) == ["group"]


def test_the_reference_turns_the_signs() -> None:
    cohort = make(effect=1.0)
    one = sd.tl.compare_niches(cohort, group_key="group", reference="control")
    other = sd.tl.compare_niches(cohort, group_key="group", reference="treated")
    np.testing.assert_allclose(one["effect"], -other["effect"])
    np.testing.assert_allclose(one["lower"], -other["upper"])
    np.testing.assert_allclose(one["p"], other["p"])
    assert other.attrs["groups"] == ["treated", "control"]


def test_more_cells_of_the_same_slides_are_no_more_witnesses() -> None:
    cohort = make(8)
    few = sd.tl.compare_niches(cohort, group_key="group")
    cohort.layers["counts"] = 1000 * cohort.layers["counts"]
    many = sd.tl.compare_niches(cohort, group_key="group")
    np.testing.assert_allclose(few["p"], many["p"], atol=0.03)
    np.testing.assert_allclose(few["upper"] - few["lower"], many["upper"] - many["lower"], rtol=0.05)


def test_a_seed_gives_the_same_p() -> None:
    cohort = make(24)
    first, second, other = (
        sd.tl.compare_niches(cohort, group_key="group", n_permutations=199, seed=seed)["p"] for seed in (0, 0, 1)
    )
    pd.testing.assert_series_equal(first, second)
    assert not first.equals(other)


def test_booleans_categories_and_numbers() -> None:
    cohort = make(effect=1.0)
    cohort.obs["treated"] = cohort.obs["group"] == "treated"
    cohort.obs["dose"] = 10.0 * cohort.obs["treated"]
    cohort.obs["ordered"] = pd.Categorical(cohort.obs["group"], ["treated", "control", "unused"])
    by_name = sd.tl.compare_niches(cohort, group_key="group")
    by_truth = sd.tl.compare_niches(cohort, group_key="treated")
    by_dose = sd.tl.compare_niches(cohort, group_key="dose")
    by_order = sd.tl.compare_niches(cohort, group_key="ordered")
    np.testing.assert_allclose(by_truth["effect"], by_name["effect"])
    assert by_truth.attrs["groups"] == ["False", "True"]
    np.testing.assert_allclose(10 * by_dose["effect"], by_name["effect"])
    assert {"share", "n"} < set(by_dose.columns)
    assert by_dose.attrs["groups"] is None
    np.testing.assert_allclose(by_order["effect"], -by_name["effect"])


def test_pairs_and_covariates() -> None:
    cohort = make(20, effect=1.0)
    cohort.obs["patient"] = [f"patient {number // 2}" for number in range(20)]
    cohort.obs["site"] = pd.Categorical(np.tile(list("abcd"), 5))
    cohort.obs["age"] = np.random.default_rng(1).uniform(30, 80, 20)
    paired = sd.tl.compare_niches(cohort, group_key="group", paired_key="patient")
    assert (paired.attrs["model"], paired.attrs["unit"], paired.attrs["n_patients"]) == (
        "mixed",
        "slides of a patient",
        10,
    )
    with pytest.warns(UserWarning, match=r"10 patients have 20 slides.*paired_key"):
        sd.tl.compare_niches(cohort, group_key="group")
    cohort.obs["side"] = np.where(np.arange(20) < 10, "left", "right")
    adjusted = sd.tl.compare_niches(cohort, group_key="side", covariates=["age", "site"], paired_key="patient")
    assert (adjusted.attrs["unit"], adjusted.attrs["covariates"]) == ("patients", ["age", "site"])
    with pytest.raises(ValueError, match="covariates tell the group"):
        sd.tl.compare_niches(cohort, group_key="group", covariates=["site"], paired_key="patient")


def test_too_few_slides() -> None:
    with pytest.warns(UserWarning, match=r"6 slides in these groups can be permuted in 20 ways.*below 0\.1\."):
        found = sd.tl.compare_niches(make(6, effect=3.0), group_key="group")
    assert found["p"].min() == found.attrs["smallest_p"] == pytest.approx(0.1)
    pairs = make(10)
    pairs.obs["patient"] = np.arange(10) // 2
    with pytest.warns(UserWarning, match=r"5 patients in these groups can be permuted in 32 ways.*below 0\.062"):
        sd.tl.compare_niches(pairs, group_key="group", paired_key="patient")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.compare_niches(make(8), group_key="group")
    with pytest.raises(ValueError, match="2 slides are too few"):
        sd.tl.compare_niches(make(2), group_key="group")


def test_slides_that_lack_something_are_left_out() -> None:
    cohort = make(18)
    cohort.obs.loc["slide 3", "group"] = None
    cohort.layers["counts"][5] = 0
    with pytest.warns(UserWarning, match=r"2 of 18 slides are left out.*slide 3, slide 5"):
        found = sd.tl.compare_niches(cohort, group_key="group")
    assert found[["n_control", "n_treated"]].iloc[0].tolist() == [9, 7]
    kept = np.setdiff1d(np.arange(18), [3, 5])
    pd.testing.assert_frame_equal(found, sd.tl.compare_niches(cohort[kept].copy(), group_key="group"))


def test_slides_that_are_not_to_be_believed() -> None:
    cohort = make(12)
    cohort.obs["verdict"] = pd.Categorical(["usable"] * 10 + ["not"] * 2)
    with pytest.warns(UserWarning, match="verdict on 2 of the slides"):
        sd.tl.compare_niches(cohort, group_key="group")


def test_niches_that_are_not_there() -> None:
    cohort = make(12)
    cohort.layers["counts"][:, 3] = 0
    cohort.layers["counts"][:4, 1] = 0
    found = sd.tl.compare_niches(cohort, group_key="group").set_index("niche")
    assert found.loc["fat", ["effect", "lower", "upper", "p", "q"]].isna().all()
    assert found["n_absent"].tolist() == [0, 4, 0, 12]
    rest = sd.tl.compare_niches(cohort[:, :3].copy(), group_key="group").set_index("niche")
    np.testing.assert_allclose(found.loc[NICHES[:3], ["effect", "q"]].astype(float), rest[["effect", "q"]])


def test_what_is_refused() -> None:
    cohort = make(12)
    cohort.obs["three"] = list("abc") * 4
    cohort.obs["same"] = 1.0
    with pytest.raises(KeyError, match=r"group_key='grp' is not a column of \.obs; there is: 'group'"):
        sd.tl.compare_niches(cohort, group_key="grp")
    with pytest.raises(KeyError, match="reference='untreated' is not a group"):
        sd.tl.compare_niches(cohort, group_key="group", reference="untreated")
    with pytest.raises(ValueError, match="has 3 groups in the slides compared"):
        sd.tl.compare_niches(cohort, group_key="three")
    with pytest.raises(ValueError, match="is 1 of all slides"):
        sd.tl.compare_niches(cohort, group_key="same")
    with pytest.raises(ValueError, match="goes with two groups"):
        sd.tl.compare_niches(cohort, group_key="same", reference="1")
    with pytest.raises(ValueError, match="each column has one part to play"):
        sd.tl.compare_niches(cohort, group_key="group", covariates=["group"])
    with pytest.raises(TypeError, match="covariates must be a list"):
        sd.tl.compare_niches(cohort, group_key="group", covariates="three")
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, found 95"):
        sd.tl.compare_niches(cohort, group_key="group", confidence=95)
    with pytest.raises(TypeError, match="found DataFrame"):
        sd.tl.compare_niches(cohort.to_df(), group_key="group")
    cohort.layers["counts"] = cohort.X
    with pytest.raises(ValueError, match="no numbers of cells"):
        sd.tl.compare_niches(cohort, group_key="group")
    del cohort.layers["counts"]
    with pytest.raises(KeyError, match="numbers of cells, slides × niches"):
        sd.tl.compare_niches(cohort, group_key="group")
    one = make(12)[:, :1].copy()
    with pytest.raises(ValueError, match="1 of 1 niches are on the slides"):
        sd.tl.compare_niches(one, group_key="group")


def test_patients_in_two_spellings() -> None:
    """One patient would count as two, each a witness of its own."""
    cohort = make(16)
    cohort.obs["patient"] = np.repeat([f"P{number}" for number in range(8)], 2)
    expected = sd.tl.compare_niches(cohort, group_key="group", paired_key="patient")
    cohort.obs.loc["slide 3", "patient"] = "p1 "
    with pytest.warns(
        UserWarning, match=r"\.obs\['patient'\] has labels that differ in blanks or capitals .*'P1', 'p1 '"
    ):
        found = sd.tl.compare_niches(cohort, group_key="group", paired_key="patient")
    assert (expected.attrs["n_patients"], found.attrs["n_patients"]) == (8, 9)


def test_niches_of_two_students_are_not_compared() -> None:
    """Two laboratories' cohorts, joined: what both call tumour is not the same."""
    cohorts = [make(12, seed=seed) for seed in (0, 1)]
    for name, cohort in zip("ab", cohorts, strict=True):
        cohort.obs_names = name + cohort.obs_names
        cohort.obs["student_model"] = pd.Categorical([name * 16] * 12)
    both = ad.concat(cohorts)
    with pytest.raises(ValueError, match=r"of 2 students .*aaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbb"):
        sd.tl.compare_niches(both, group_key="group")
    one = sd.tl.compare_niches(both[both.obs["student_model"] == "a" * 16], group_key="group")
    pd.testing.assert_frame_equal(one, sd.tl.compare_niches(cohorts[0], group_key="group"))


def test_a_slide_that_is_there_twice() -> None:
    cohort = make(16)
    cohort.layers["counts"][14] = cohort.layers["counts"][2]
    with pytest.warns(UserWarning, match=r"1 slides have as many cells in every niche .*\(slide 14 as slide 2\)"):
        sd.tl.compare_niches(cohort, group_key="group")
    cohort.layers["counts"][[2, 14]] = [20, 10, 5, 3]  # as may be by chance
    sd.tl.compare_niches(cohort, group_key="group")


def test_niches_that_are_left_out() -> None:
    """The shares are those of what is there: 45 % and 34 % become 57 % and 43 %."""
    cohort = make(16)
    cohort.X = cohort.layers["counts"] / cohort.layers["counts"].sum(axis=1, keepdims=True)
    some = cohort[:, ["tumour", "stroma"]]
    with pytest.warns(
        UserWarning, match="Niches are left out of the table: those that are there have 79% of the cells"
    ):
        sd.tl.compare_niches(some, group_key="group")
    cohort.X = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.compare_niches(cohort, group_key="group")


@pytest.mark.parametrize("ages", [["63,5", "58", "61,0", "70"], [f"{50 + number}" for number in range(16)]])
def test_numbers_as_text_are_no_categories(ages: list[str]) -> None:
    cohort = make(16)
    cohort.obs["age"] = pd.Series([ages[number % len(ages)] for number in range(16)], index=cohort.obs_names)
    with pytest.raises(ValueError, match=r"\.obs\['age'\] \(covariates\) is text that holds numbers, such as '"):
        sd.tl.compare_niches(cohort, group_key="group", covariates=["age"])
    cohort.obs["age"] = pd.to_numeric(cohort.obs["age"].astype(str).str.replace(",", "."), errors="coerce")
    cohort.obs["site"] = ["1", "2", "2", "1"] * 4
    sd.tl.compare_niches(cohort, group_key="group", covariates=["age", "site"])


@pytest.mark.parametrize("unknown", ["unk", "n/a", "?"])
def test_a_word_among_numbers_makes_no_categories_of_them(unknown: str) -> None:
    """As where somebody wrote into a table that the age of one is not known; each decade would be a category."""
    cohort = make(16, effect=1.0)
    ages = np.tile([50, 60, 70, 80], 4)
    cohort.obs["age"] = [*map(str, ages[:-1]), unknown]
    said = rf"such as '50' beside '{re.escape(unknown)}', and each of its 5 values would be a category"
    with pytest.raises(ValueError, match=said):
        sd.tl.compare_niches(cohort, group_key="group", covariates=["age"])
    cohort.obs["age"] = pd.to_numeric(cohort.obs["age"].astype(str).str.replace(",", "."), errors="coerce")
    with pytest.warns(UserWarning, match=r"1 of 16 slides"):
        found = sd.tl.compare_niches(cohort, group_key="group", covariates=["age"])
    cohort.obs["age"] = ages
    expected = sd.tl.compare_niches(cohort[:-1], group_key="group", covariates=["age"])
    np.testing.assert_allclose(found["effect"], expected["effect"])
    cohort.obs["grade"] = np.repeat(["G1", "G2", "G3", "GX"], 4)
    sd.tl.compare_niches(cohort, group_key="group", covariates=["grade"])


def test_columns_of_a_merge_in_another_order() -> None:
    """The clinical table's order is not the cohort's: groups would be those of other slides."""
    cohort = make(16, effect=2.0)
    cohort.obs["patient"] = [f"P{number}" for number in range(16)]
    cohort.layers["counts"][:, 0] += np.arange(16)  # slides of 16 sizes
    cohort.obs["n_niches"] = cohort.layers["counts"].sum(axis=1)
    cohort.obs["student_model"] = pd.Categorical(["0" * 16] * 16)
    right = sd.tl.compare_niches(cohort, group_key="group")
    clinical = cohort.obs[["patient", "group"]].iloc[::-1]
    merged = cohort.copy()
    merged.obs = clinical.merge(cohort.obs.drop(columns="group"), on="patient").set_index(cohort.obs_names)
    with pytest.raises(
        ValueError, match=r"rows of \.obs are of other slides than the numbers of cells: 'slide \d+' has"
    ):
        sd.tl.compare_niches(merged, group_key="group")
    merged.X = merged.layers["counts"] / merged.layers["counts"].sum(axis=1, keepdims=True)
    with pytest.raises(ValueError, match=r"rows of \.obs are of other slides"):
        sd.pl.cohort(merged, group_key="group")
    joined = cohort[:, cohort.var_names[:3]].copy()  # some niches alone: fewer cells than have a niche
    joined.obs = cohort.obs.drop(columns="group").join(clinical.set_index("patient"), on="patient")
    sd.tl.compare_niches(joined, group_key="group")
    again = cohort.copy()
    again.obs = cohort.obs.drop(columns="group").join(clinical.set_index("patient"), on="patient")
    pd.testing.assert_frame_equal(sd.tl.compare_niches(again, group_key="group"), right)
    again.obs["n_niches"] = 4  # a table of one's own may call something else so
    del again.obs["student_model"]
    sd.tl.compare_niches(again, group_key="group")
