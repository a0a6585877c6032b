"""The sixteen public Xenium slides of Hizmi et al. 2026, as far as what is public tells which they are.

Tissue, condition and µm per pixel are the paper's (section 5.1), whose reference numbers are kept. The paper names one
slide (figure 2) and says of the others where they come from: 10x Genomics' public datasets. Which of these it means is
therefore found by tissue, condition, resolution and size; `note` says how, and a slide without `title` could not be
told from others of its kind. Titles, pages and measured resolutions: metadata/HEST_v1_0_0.csv of mahmoodlab/HEST, where
`source` names nothing else. Nothing was downloaded to check it when this was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TENX = "https://www.10xgenomics.com/datasets"
SAMPLES = "https://cf.10xgenomics.com/samples/xenium"
LARGE_SAMPLES = "https://s3-us-west-2.amazonaws.com/10x.files/samples/xenium"
SANDBOX = "giovp/spatialdata-sandbox"
PROFILING = "Data with Human Immuno-Oncology Profiling Panel"
"""10x's series of slides of several tumours."""
PANEL = "human-immuno-oncology-profiling-panel"
ONE_OF_ITS_KIND = "10x Genomics' only slide of this kind with an H&E that we know of."
TWO_PANELS = (
    "The page has the section twice, with the pre-designed panel and with an add-on; the paper does not say which of "
    "them it took."
)


@dataclass(frozen=True)
class RemoteFile:
    """A file to download."""

    url: str
    checksum: str | None = None
    """``sha256:…`` or ``md5:…``, where somebody has published one."""

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class XeniumSlide:
    """A public Xenium slide with its H&E."""

    name: str
    tissue: str
    condition: str
    reference: int
    """Its number among the paper's references."""
    mpp: float = 0.274
    species: str = "human"
    cells: int | None = None
    """In 10x's bundle; the paper leaves some out."""
    title: str | None = None
    """What 10x Genomics calls it; `None` where we cannot tell which slide it is."""
    page: str | None = None
    files: tuple[RemoteFile, ...] = ()
    """The bundle (``…_outs.zip``) first; none where not all of the addresses are known."""
    note: str = ONE_OF_ITS_KIND
    source: str | None = None
    """Where the addresses, checksums and numbers of cells were found."""


def _files(
    sample: str, *more: str, bundle_at: str = SAMPLES, checksums: Mapping[str, str] | None = None
) -> tuple[RemoteFile, ...]:
    """Name the files of a slide: 10x puts all of one into a folder of the sample's name."""
    name = sample.partition("/")[2]
    known = checksums or {}
    hosts = {"outs.zip": bundle_at, "he_image.ome.tif": SAMPLES, "he_imagealignment.csv": SAMPLES}
    hosts |= dict.fromkeys(more, SAMPLES)
    return tuple(RemoteFile(f"{host}/{sample}/{name}_{kind}", known.get(kind)) for kind, host in hosts.items())


SLIDES = (
    XeniumSlide(
        "colon_healthy",
        "colon",
        "healthy",
        reference=1,
        title="Human Colon Preview Data (Xenium Human Colon Gene Expression Panel)",
        page=f"{TENX}/human-colon-preview-data-xenium-human-colon-gene-expression-panel-1-standard",
        note=f"{TWO_PANELS} HEST measured 0.137 µm per pixel on the former, the paper 0.274 on its own.",
    ),
    XeniumSlide(
        "colon_cancer",
        "colon",
        "cancer",
        reference=1,
        mpp=0.137,
        title="Human Colon Preview Data (Xenium Human Colon Gene Expression Panel)",
        page=f"{TENX}/human-colon-preview-data-xenium-human-colon-gene-expression-panel-1-standard",
        note=f"{TWO_PANELS} HEST measured 0.274 µm per pixel on the latter, the paper 0.137 on its own.",
    ),
    XeniumSlide(
        "colorectal_cancer",
        "colon and rectum",
        "cancer",
        reference=4,
        title=f"FFPE Human Colorectal Cancer {PROFILING} and Custom Add-on",
        page=f"{TENX}/ffpe-human-colorectal-cancer-data-with-{PANEL}-and-custom-add-on-1-standard",
        note="Likely: the one that 10x calls colorectal, where others are of the colon.",
    ),
    XeniumSlide(
        "liver_healthy",
        "liver",
        "healthy",
        reference=6,
        title="Human Liver Data with Xenium Human Multi-Tissue and Cancer Panel",
        page=f"{TENX}/human-liver-data-xenium-human-multi-tissue-and-cancer-panel-1-standard",
        note="The non-diseased section of the two on the page.",
    ),
    XeniumSlide(
        "lymph_node_cancer",
        "lymph node",
        "cancer",
        reference=13,
        note="Not identified: the lymph nodes with an H&E that we know of are non-diseased or reactive.",
    ),
    XeniumSlide("breast_cancer_1", "breast", "cancer", reference=11, note="Not identified: one of several."),
    XeniumSlide(
        "breast_cancer_2",
        "breast",
        "cancer",
        reference=14,
        note="Not identified: one of several. It has cell types, of about 380,000 cells (the paper's section 5.5).",
    ),
    XeniumSlide(
        "ovary_cancer",
        "ovary",
        "cancer",
        reference=9,
        cells=407_120,
        title="FFPE Human Ovarian Cancer with 5K Human Pan Tissue and Pathways Panel plus 100 Custom Genes",
        page=f"{TENX}/xenium-prime-ffpe-human-ovarian-cancer",
        files=_files(
            "3.0.0/Xenium_Prime_Ovarian_Cancer_FFPE_XRrun",
            "cell_groups.csv",
            bundle_at=LARGE_SAMPLES,
            checksums={
                "outs.zip": "sha256:1ba372a8198c6d65a0bb02b469d3345ed12102698f444d33dd3a78ff424f01da",
                "he_image.ome.tif": "sha256:8cda58ae3f4e6aa1177f34724d5acad6e3bf97e3854f77065f20defc80faf13b",
                "he_imagealignment.csv": "sha256:3ad696e0e2c91b019840e584564f7b787f9f5b081582fb8d9b4079ad4f2c349f",
                "cell_groups.csv": "sha256:a100ddd8c3ef24cba951f18d96f53852a1d944bba8415dbb302972b17ac97263",
            },
        ),
        note="Named in the paper's figure 2; its 406,611 labelled cells are the paper's 406K.",
        source="the download command of 10x's page; checksums of the copies that saeyslab/harpy distributes",
    ),
    XeniumSlide(
        "brain_cancer",
        "brain",
        "cancer",
        reference=3,
        title=f"FFPE Human Brain Cancer {PROFILING} and Custom Add-on",
        page=f"{TENX}/ffpe-human-brain-cancer-data-with-{PANEL}-and-custom-add-on-1-standard",
        note="Likely: of the same series as the colorectal slide.",
    ),
    XeniumSlide(
        "cervix_cancer",
        "cervix",
        "cancer",
        reference=12,
        title="Xenium Prime FFPE Human Cervical Cancer",
        page=f"{TENX}/xenium-prime-ffpe-human-cervical-cancer",
        files=_files(
            "3.0.0/Xenium_Prime_Cervical_Cancer_FFPE",
            bundle_at=LARGE_SAMPLES,
        ),
        source=f"{SANDBOX}, xenium_prime_cervical_3.0.0_io/download.py",
    ),
    XeniumSlide(
        "kidney_cancer",
        "kidney",
        "cancer",
        reference=15,
        cells=465_545,
        title="Xenium In Situ Gene and Protein Expression data for FFPE Human Renal Cell Carcinoma",
        page=f"{TENX}/xenium-protein-ffpe-human-renal-carcinoma",
        note="Likely: 10x Genomics' other slide of kidney cancer has 56,510 cells, fewer than the paper's smallest.",
        source="hutaobo/pyXenium, its catalogue of datasets",
    ),
    XeniumSlide(
        "pancreas_cancer_1",
        "pancreas",
        "cancer",
        reference=2,
        mpp=0.137,
        title="Pancreatic Cancer with Xenium Human Multi-Tissue and Cancer Panel",
        page=f"{TENX}/pancreatic-cancer-with-xenium-human-multi-tissue-and-cancer-panel-1-standard",
        files=_files(
            "1.6.0/Xenium_V1_hPancreas_Cancer_Add_on_FFPE",
            "cell_groups.csv",
            checksums={
                "outs.zip": "md5:7acca4c2a40f09968b72275403c29f93",
                "he_image.ome.tif": "md5:4e96596ea13a3d0f6139638b2b90aef4",
            },
        ),
        note="The pancreas of 0.137 µm per pixel, and with cell types (about 190,000 cells, the paper's section 5.5).",
        source=f"{SANDBOX}, xenium_1.6.0_io/download.py; checksums of SpatialPathology/InSituPy",
    ),
    XeniumSlide(
        "pancreas_cancer_2",
        "pancreas",
        "cancer",
        reference=10,
        title=f"FFPE Human Pancreatic Ductal Adenocarcinoma {PROFILING}",
        page=f"{TENX}/ffpe-human-ductal-adenocarcinoma-data-with-{PANEL}-1-standard",
        note="Likely: the third slide of pancreatic cancer has 140,702 cells, fewer than the paper's smallest.",
    ),
    XeniumSlide(
        "lung_cancer",
        "lung",
        "cancer",
        reference=5,
        title="Post-Xenium Technical Note: Xenium v1 and Xenium Prime 5K for FFPE Human Lung Cancer",
        page=f"{TENX}/xenium-human-lung-cancer-post-xenium-technote",
        files=_files(
            "3.0.0/Xenium_Prime_Human_Lung_Cancer_FFPE",
            bundle_at=LARGE_SAMPLES,
        ),
        note="Likely: the page's Xenium Prime 5K slide; the one lung among the authors' names of slides is lung5k.",
        source="the download command of 10x's page, repeated in public scripts",
    ),
    XeniumSlide(
        "mouse_colon_healthy",
        "colon",
        "healthy",
        reference=7,
        species="mouse",
        cells=219_797,
        title="Fresh Frozen Mouse Colon with Xenium Multimodal Cell Segmentation",
        page=f"{TENX}/fresh-frozen-mouse-colon-with-xenium-multimodal-cell-segmentation-1-standard",
        files=(
            RemoteFile(f"{SAMPLES}/2.0.0/Xenium_V1_mouse_Colon_FF/Xenium_V1_mouse_Colon_FF_outs.zip"),
            RemoteFile(f"{SAMPLES}/2.0.0/Xenium_V1_mouse_Colon_FF/Xenium_V1_mouse_Colon_FF_he_image.ome.tif"),
            RemoteFile(f"{SAMPLES}/2.0.0/Xenium_V1_mouse_Colon_FF/Xenium_V1_mouse_Colon_FF_he_imagealignment.csv"),
        ),
        source=f"{SANDBOX}, xenium_2.0.0_colon_io/download.py; number of cells as 10x's page is quoted",
    ),
    XeniumSlide(
        "whole_mouse_healthy",
        "whole organism",
        "healthy",
        reference=8,
        species="mouse",
        cells=1_355_849,
        title="Whole Mouse Pup Preview Data (Xenium Mouse Tissue Atlassing Panel)",
        page=f"{TENX}/mouse-pup-preview-data-xenium-mouse-tissue-atlassing-panel-1-standard",
        source="number of cells: dbjzs/SpaLP",
    ),
)


def find_slide(name: str) -> XeniumSlide:
    """Return the slide of that name."""
    from stdistill._support.checks import check_key

    slides = {slide.name: slide for slide in SLIDES}
    check_key(name, slides, "a public slide", argument="name", hint="sd.datasets.list() describes them.")
    return slides[name]
