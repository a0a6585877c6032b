"""Cell types of spots from H&E that was not learned from: networks beside ridge, the nearest spots and the mean.

    python benchmarks/composition.py
    python benchmarks/composition.py --quick

Sections C2 to C5 of one patient of her2st and B4 of another (Andersson et al. 2021, Nat Commun 12:6012; see
`her2st.py`), with the proportions of 22 minor cell types that stereoscope estimated. The features are the built-in
"texture" and MobileNetV2's of ImageNet, side by side. `sd.tl.cross_validate` leaves out

- within: each section of patient C, which are consecutive: an optimistic question;
- across: each patient, so that B4 is told from patient C, and C from B4.

Everything is at its default, without ("own") and with the mean features of the spots within 320 µm beside those of the
spot ("around"), and features are brought to one mean and spread by all training spots ("training"), or on each section
by its own spots ("slide"). CC is the mean over types and then sections of Pearson's correlation, L1 the mean absolute
error. Maps compare, section by section, the bivariate Moran's R of all pairs of types in the prediction with that in
the truth: mean over types of the cosine and of the correlation of their rows, without the diagonal. The spread is the
standard deviation over seeds. `--quick` takes three sections of C, every other spot, one small network, one epoch, one
seed and the first question: it shows that the script works.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from her2st import CROP_PX, MOBILENET, SECTIONS, SHARED_DATA, WINDOW_UM, MobileNetV2, read_section
from spatialdata import SpatialData

import stdistill as sd

OTHER_PATIENT = "B4"
RADIUS_UM = 320
"""The eight spots around a spot of a grid of 200 µm."""
USE_REP = ["X_texture", "X_mobilenet"]
QUESTIONS = {"within": "section", "across": "patient"}


def read(folder: Path, name: str, every: int) -> SpatialData:
    """Read a section with both features, the abundances of minor types and neighbourhoods."""
    section = read_section(folder / "her2st", name, every)
    spots = section["table"]
    minor = pd.read_csv(folder / "her2st" / "proportions" / f"{name}-minor.tsv", sep="\t", index_col=0)
    spots.obsm["minor"] = minor.loc[spots.obs_names]
    sd.pp.abundances(section, obsm_key="minor")
    spots.obs["section"], spots.obs["patient"] = name, name[0]
    with np.load(folder / MOBILENET) as file:
        mobilenet = sd.encoders.from_module(MobileNetV2(dict(file)), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    for key, encoder in zip(USE_REP, (sd.encoders.get("texture"), mobilenet), strict=True):
        sd.pp.embed_he(section, encoder=encoder, crop_px=CROP_PX, mpp=WINDOW_UM / CROP_PX, key_added=key)
    sd.pp.neighborhoods(section, radius_um=RADIUS_UM)
    return section


def ask(
    sections: Sequence[SpatialData], question: str, by: Sequence[str], seeds: Sequence[int], **how: Any
) -> Iterator[dict[str, Any]]:
    """Leave each group out, and yield the measures of each method, group and seed."""
    for around, standardize, seed in product((False, True), by, seeds):
        start = time.perf_counter()
        scores = sd.tl.cross_validate(
            list(sections),
            group_key=QUESTIONS[question],
            use_rep=USE_REP,
            use_neighbors=around,
            standardize=standardize,
            seed=seed,
            progress_bar=False,
            **how,
        )
        seconds = time.perf_counter() - start
        for row in scores.query("type == 'all' and group != 'all'").itertuples():
            tables = [one["table"] for one in sections if one["table"].obs[QUESTIONS[question]].iloc[0] == row.group]
            maps = pd.DataFrame([compare_maps(table, f"cv_{row.method}") for table in tables]).mean()
            measures = {"CC": row.cc, "L1": row.l1, **maps}
            features = "around" if around else "own"
            yield {"question": question, "method": row.method, "features": features, "by": standardize,
                   "left out": row.group, "seed": seed, **measures, "seconds": seconds}  # fmt: skip
        print(
            f"{question}, {'around' if around else 'own'}, by {standardize}, seed {seed}: {seconds:.0f} s", flush=True
        )


def compare_maps(spots: Any, key: str) -> dict[str, float]:
    """Compare which types lie together in the prediction and in the truth of a section."""
    truth, predicted = (sd.tl.colocalization(spots, key=one) for one in ("abundance", key))
    compared = sd.tl.compare_colocalization(truth, predicted).set_index("type").loc["all"]
    return {"cosine": compared["cosine"], "correlation": compared["correlation"]}


def main() -> None:
    """Compare the methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with her2st and mobilenet_v2_imagenet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--by", nargs="+", default=["training", "slide"], help="values of standardize=")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    arguments = parser.parse_args()
    names, every, seeds = SECTIONS, 1, arguments.seeds
    how: dict[str, Any] = {}
    if arguments.quick:
        names, every, seeds, how = (
            SECTIONS[:3],
            2,
            seeds[:1],
            {"max_epochs": 1, "n_members": 1, "width": 64, "depth": 2},
        )
    patient = [read(arguments.data, name, every) for name in names]
    print(f"{', '.join(names)}: {[one['table'].n_obs for one in patient]} spots, seeds {seeds}", flush=True)
    rows = list(ask(patient, "within", arguments.by, seeds, **how))
    if not arguments.quick:
        rows += ask([*patient, read(arguments.data, OTHER_PATIENT, every)], "across", arguments.by, seeds)
    frame = pd.DataFrame(rows)
    frame["test"] = np.where(frame["question"] == "within", "C, each section", "to " + frame["left out"])
    keys = ["test", "features", "by", "method"]
    measures = ["CC", "L1", "cosine", "correlation"]
    by_seed = frame.groupby([*keys, "seed"], sort=False)[measures].mean()
    means = by_seed.groupby(keys, sort=False).mean()
    spread = by_seed.groupby(keys, sort=False).std().add_suffix(" sd")
    print(f"\n{means.join(spread).round(4).to_string()}")


if __name__ == "__main__":
    main()
