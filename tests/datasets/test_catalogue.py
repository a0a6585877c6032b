from __future__ import annotations

import re

import pandas as pd
import pytest

import stdistill as sd
from stdistill.datasets._catalogue import SLIDES, find_slide

SMALLEST, LARGEST, ALL_CELLS = 190_875, 1_353_765, 8_070_255
"""Hizmi et al. 2026, section 5.1."""


@pytest.fixture
def slides() -> pd.DataFrame:
    return sd.datasets.list()


def test_the_sixteen_slides_of_the_paper(slides: pd.DataFrame) -> None:
    assert len(slides) == 16
    assert slides.index.is_unique
    assert slides["tissue"].nunique() == 12
    assert slides["condition"].value_counts().to_dict() == {"cancer": 12, "healthy": 4}
    assert slides["species"].value_counts().to_dict() == {"human": 14, "mouse": 2}
    # Fifteen references, of which the first has two slides.
    assert sorted(slide.reference for slide in SLIDES) == [1, *range(1, 16)]


def test_resolutions_are_those_of_the_paper(slides: pd.DataFrame) -> None:
    assert slides.index[slides["mpp"] == 0.137].tolist() == ["colon_cancer", "pancreas_cancer_1"]
    assert (slides["mpp"] == 0.274).sum() == 14


def test_numbers_of_cells_fit_the_paper(slides: pd.DataFrame) -> None:
    """The bundles have a few cells that the paper leaves out."""
    cells = slides["cells"].dropna()
    assert cells.between(SMALLEST, 1.01 * LARGEST).all()
    unknown = len(slides) - len(cells)
    assert unknown * SMALLEST < ALL_CELLS - cells.sum() < unknown * LARGEST
    assert slides.loc["ovary_cancer", "cells"] == 407_120


def test_columns(slides: pd.DataFrame) -> None:
    complete = ["species", "tissue", "condition", "mpp", "downloadable", "note"]
    assert slides[complete].notna().all(axis=None)
    assert slides["title"].isna().equals(slides["page"].isna())
    assert slides.index[slides["title"].isna()].tolist() == ["lymph_node_cancer", "breast_cancer_1", "breast_cancer_2"]
    assert slides["page"].dropna().str.fullmatch(r"https://www\.10xgenomics\.com/datasets/[a-z0-9-]+").all()
    assert slides.loc[slides["downloadable"] | slides["cells"].notna(), ["title", "page"]].notna().all(axis=None)
    # A number or an address that nobody can look up is none; the ovary's is in the note.
    assert slides.loc[slides["downloadable"] | slides["cells"].notna(), "source"].notna().all()
    assert slides["note"].str.endswith(".").all()


@pytest.mark.parametrize("slide", [slide for slide in SLIDES if slide.files], ids=lambda slide: slide.name)
def test_files(slide: sd.datasets._catalogue.XeniumSlide) -> None:
    bundle, he, alignment, *more = slide.files
    assert bundle.name.endswith("_outs.zip")
    assert he.name.endswith("_he_image.ome.tif")
    # The reader finds the alignment by the name of the image.
    assert alignment.name == he.name.replace("he_image.ome.tif", "he_imagealignment.csv")
    assert [file.name.rpartition("_cell_groups.csv")[1] for file in more] == ["_cell_groups.csv"] * len(more)
    for file in slide.files:
        assert re.fullmatch(r"https://(cf\.10xgenomics\.com|s3-us-west-2\.amazonaws\.com/10x\.files)/.*", file.url)
        assert file.url.split("/")[-2] in file.name
        if file.checksum is not None:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.checksum)


def test_no_file_is_named_twice() -> None:
    urls = [file.url for slide in SLIDES for file in slide.files]
    assert len(set(urls)) == len(urls)
    assert sum(bool(slide.files) for slide in SLIDES) == sd.datasets.list()["downloadable"].sum() == 5


def test_unknown_slide() -> None:
    with pytest.raises(KeyError, match=r"name='spleen' is not a public slide; there is: 'brain_cancer'.*datasets.list"):
        find_slide("spleen")
