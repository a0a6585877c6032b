"""The page on the hub, and what a model prints: complete, readable, and nothing but text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard

import stdistill as sd
from stdistill.models.sharing.alignment import describe as describe_alignment
from stdistill.models.sharing.description import Description, Part, as_html, as_line, find_ancestors
from stdistill.models.sharing.licences import check_shareable, choose
from stdistill.models.sharing.readme import write_readme

Make = Callable[..., sd.models.NicheModel]
STORED = Path(__file__).parents[2] / "stored"


def page_of(model: Any) -> ModelCard:
    """The page, read as the hub reads it."""
    described = model.describe()
    licence = choose(described.licences, model.card.licence)
    text = write_readme(described, repo_id="lab/breast", kind=model.kind, licence=licence, sums={"card.json": "ab12"})
    return ModelCard(text)


@pytest.fixture
def complete(make_student: Make, cells: ad.AnnData) -> sd.models.NicheModel:
    composition = sd.tl.composition(cells, niche_key="region", cell_type_key="cell_type")
    from stdistill.models.sharing.niche import commonest

    student = make_student()
    types = commonest(composition, student.card.niches)
    student.card = replace(student.card, tissue="human breast cancer, FFPE", cell_types=types)
    return student


def test_front_matter(complete: sd.models.NicheModel) -> None:
    data = page_of(complete).data
    assert (data.license, data.library_name, data.base_model) == ("cc-by-nc-nd-4.0", "stdistill", ["MahmoodLab/UNI2-h"])
    assert {"stdistill", "histology", "niche"} <= set(data.tags or [])
    assert data.to_dict()["extra_gated_prompt"].startswith("This model learned through uni2-h.")


def test_a_complete_page(complete: sd.models.NicheModel) -> None:
    text = page_of(complete).text
    card, agreement = complete.card, complete.card.agreement
    assert agreement is not None
    assert card.sizes is not None
    for said in (
        "human breast cancer, FFPE",
        "- 1 slide\n",
        f"{card.training['n_training_cells']:,} cells",
        "crops of 112 px at 0.5 µm per pixel (56 µm)",
        f"cells within {card.radius_um:.1f} µm",
        f"ARI {agreement['ari']:.2f} and NMI {agreement['nmi']:.2f}",
        f"on {agreement['n_cells']:,} test cells, which it never saw",
        "held-out cells, there off by",
        "one held-out cell of a hundred is above",
        f"| {card.sizes[card.niches.index('tumour')]:,} |",
        "epithelial 8",
        "[MahmoodLab/UNI2-h](https://huggingface.co/MahmoodLab/UNI2-h)",
        "`9a129038d9a00aed`",
        "“derivatives, which include models trained on outputs from the UNI models”",
        "https://github.com/mahmoodlab/UNI",
        "arXiv:2604.09076",
        "https://doi.org/10.1038/s41591-024-02857-3",
        'sd.models.NicheModel.from_pretrained("lab/breast")',
        "stdistill predict hf:lab/breast slide.svs",
        "| `card.json` | `ab12` |",
    ):
        assert said in text, said
    assert "Not recorded" not in text
    assert "More Information Needed" not in text
    assert "None" not in text


def test_what_is_not_known_is_said_once(make_student: Make) -> None:
    """A card of an earlier version: no placeholder stands where nobody has said a thing."""
    model = sd.models.NicheModel.load(STORED / "student")
    model.card = replace(model.card, licence="MIT")
    text = page_of(model).text
    said = text.partition("## Not recorded\n\n")[2].strip()
    assert said == (
        "tissue, slides, cell types of the niches, sizes of the niches, encoder, held-out agreement, calibration, OOD "
        "reference."
    )
    assert "## Agreement" not in text
    assert "None" not in text
    assert "stdistill predict" not in text  # it cannot know how to compute the features


def test_a_licence_that_the_hub_does_not_know(make_student: Make) -> None:
    data = page_of(make_student("phikon-v2", "Owkin non-commercial")).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "owkin-non-commercial"
    assert data["license_link"] == "https://huggingface.co/owkin/phikon-v2"


def test_an_open_licence_asks_for_nothing(make_student: Make) -> None:
    page = page_of(make_student("texture", "BSD-3-Clause"))
    assert "extra_gated_prompt" not in page.data.to_dict()
    assert page.data.base_model is None
    assert "UNI" not in page.text


def test_text_of_a_card_is_only_text(complete: sd.models.NicheModel) -> None:
    """Cards come from anybody: no markup, no line of its own, no address in a style."""
    evil = "</table><script>alert(1)</script>\n# Heading [x](http://x) \x1b[31m"
    colors = ["red;background:url(http://x)", "#ff0000"]
    complete.card = replace(complete.card, niches=[evil, "b"], colors=colors, tissue=evil)
    text = page_of(complete).text
    assert "<script" not in text.replace("\\<script", "")
    assert "\n# Heading" not in text
    assert "url(" not in text
    assert "\x1b" not in text + repr(complete)
    assert len(repr(complete).splitlines()) <= 10
    html = complete._repr_html_()
    assert "<script" not in html
    assert "url(" not in html
    tags = re.findall(r"<(\w+)", html)
    assert set(tags) <= {"table", "caption", "strong", "span", "tbody", "tr", "th", "td"}


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "td":
            self.cells.append(data)


def test_a_student_that_was_not_calibrated(complete: sd.models.NicheModel) -> None:
    """As it is by default: how sure it may be is what the test cells say."""
    complete.card = replace(complete.card, calibration=None)
    text = page_of(complete).text
    assert "calibrated on" not in text
    assert f"off by {complete.card.training['ece_after']:.1%} on average on test cells" in text


def test_ten_lines(complete: sd.models.NicheModel) -> None:
    lines = repr(complete).splitlines()
    assert lines[0] == "NicheModel: a student of 2 tissue niches from H&E"
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 120
    about = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines[1:])
    assert [*about] == ["Niches", "Trained on", "Reads", "Agreement", "Confidence", "Unusual", "Licence", "Weights"]
    assert about["Trained on"].startswith("human breast cancer, FFPE; 1 slide; ")
    assert re.fullmatch(r"(tumour|stroma \| <b>bold</b>) \(\d+%\), .* \(\d+%\)", about["Niches"])
    parser = Balance()
    parser.feed(complete._repr_html_())
    assert parser.open == []
    assert " ".join("".join(parser.cells).split()).startswith(about["Niches"] + about["Trained on"][:20])
    assert complete._repr_html_().count("■") == 2


def test_other_kinds(cells: ad.AnnData) -> None:
    table = cells.copy()
    rng = np.random.default_rng(0)
    types = pd.DataFrame(rng.random((len(table), 2)), columns=["B cell", "T cell"], index=table.obs_names)
    table.obsm["types"] = types
    sd.pp.abundances(table, obsm_key="types")
    model = sd.tl.decompose(table, method="ridge")
    assert repr(model).splitlines()[:2] == [
        "CompositionModel: a ridge regression that tells 2 cell types from H&E",
        "  Cell types  B cell, T cell",
    ]
    assert "not known" in repr(model)
    with pytest.raises(ValueError, match="The licence of the model cannot be computed"):
        page_of(model)
    model.card = replace(model.card, licence="CC-BY-4.0")
    text = page_of(model).text
    assert 'sd.models.CompositionModel.from_pretrained("lab/breast")' in text
    assert "| B cell |" in text
    scvi = sd.models.load(STORED / "expression_model")
    assert repr(scvi).startswith("ExpressionModel: a scVI model of 12 genes\n")
    teacher = sd.models.NicheModel.load(STORED / "teacher")
    assert repr(teacher).startswith("NicheModel: a teacher of 3 tissue niches\n")


def test_an_alignment_whose_encoder_learned() -> None:
    """It holds changed blocks of the encoder, under the terms of the encoder as it was."""
    he = {"feature_key": "X_he_macro", "n_features": 1536, "encoder": "uni2-h-finetuned", "crop_px": 224, "mpp": 0.5}
    network = {"width": 8, "hidden": 8, "n_dims": 4, "edges": "none", "edge_temperature": 1.0, "dropout": 0.0}
    expression = {"feature_key": "X_scVI", "n_features": 10}
    plain = sd.models.AlignmentCard({"macro": he}, expression, 112.0, 20.0, 5000, network)
    tuned = replace(plain, finetuned={"blocks": 2, "encoder": "uni2-h", "revision": "sha256-ab"})
    assert not describe_alignment(plain).holds_encoder
    described = describe_alignment(tuned)
    assert described.holds_encoder
    assert [each.name for each in described.ancestors] == ["uni2-h"]
    with pytest.raises(ValueError, match="does not allow to pass these on"):
        check_shareable(described.licences, holds_encoder=described.holds_encoder)


def test_ancestors() -> None:
    one, other = find_ancestors("uni2-h+texture", "CC-BY-NC-ND-4.0 + BSD-3-Clause", "sha256-ab+unknown")
    assert (one.name, one.repository, one.revision, one.licence) == (
        "uni2-h",
        "MahmoodLab/UNI2-h",
        "sha256-ab",
        "CC-BY-NC-ND-4.0",
    )
    assert (other.repository, other.revision, other.licence) == (None, None, "BSD-3-Clause")
    (tuned,) = find_ancestors("uni2-h-finetuned", None, None)
    assert tuned.licence == "CC-BY-NC-ND-4.0"  # it stays what it was made from
    (own,) = find_ancestors("mine", "MIT", None)
    assert (own.licence, own.reference) == ("MIT", None)
    assert [each.licence for each in find_ancestors("mine+yours", "MIT", None)] == ["MIT", "MIT"]
    assert [each.licence for each in find_ancestors("a+b+c", "MIT + unknown", None)] == [None, None, None]
    assert find_ancestors(None, None, None)[0].licence is None


def test_lines() -> None:
    assert as_line(" a\n\tb\x00\u202ec ") == "a b c"
    parts = [Part("n & m", "expression(1)"), Part("m", "tomato"), *(Part(str(number)) for number in range(5))]
    html = as_html("t", {"Niches": "", "a": "x & y"}, Description("t", "p", {}, "u", parts=parts))
    assert "x &amp; y" in html
    assert "n &amp; m, <span" in html
    assert "2 and 2 more</td>" in html
    assert html.count("■") == 1
    assert Description("t", "p", {}, "u").licences == []
