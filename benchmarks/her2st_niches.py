"""Niches of a section that was left out, from its H&E: the student beside logistic regression and the baselines.

    python benchmarks/her2st_niches.py
    python benchmarks/her2st_niches.py --context
    python benchmarks/her2st_niches.py --quick

Sections C2 to C5 of patient C of her2st (see `her2st.py`), with MobileNetV2's features of the 155 µm around each spot.
`--context` puts those of the 465 µm around it beside them (`sd.pp.embed_he(context=3)`). Spots with fewer than 200
counts are left out. A neighbourhood is the spots within 450 µm: two steps of the grid, 14 neighbours on average. Each
section is left out once, and nothing is fitted to it or chosen by it:

- teacher: k-means (k = 5) of neighbourhood means of 50 principal components of the log-normalised 2,000 most variable
  genes. Its logits are squared distances to the centres, times -1, its niche is the nearest centre. "plain" takes
  expression as it is, and some niches are then hardly found in some sections. "centred" first takes away each section's
  mean: sections are batches;
- logistic regression and k-means of neighbourhood means of the standardised features;
- student: `sd.tl.distill` on the teacher's logits, one narrow layer (`NETWORK`), 10 epochs;
- logistic regression and student by slide: features are brought to one mean and spread on each section by its own spots
  (`standardize="slide"`), also on the one that is left out;
- three students: the mean of the probabilities of three such, whose seeds no other three share;
- Histology-NOLAN: `sd.tl.nolan` on the features, the same network, otherwise its defaults;
- Histology-Leiden: `sd.tl.leiden` on the features, with both of its ways to label test cells.

The penalty of the logistic regression and the regularisation of the student (`REGULARIZATION`) are chosen by one rule:
each training section is left out in turn, and the highest mean ARI with the teacher is taken. Measures are ARI and NMI
with the teacher on the section left out, for each seed; the spread is the standard deviation over seeds of the mean
over sections. Seconds are those of one section and seed, without choosing. `--quick` takes three sections, every fourth
spot, one epoch, one seed, the plain teacher and two settings, and leaves out one section: it shows that the script
works, nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from her2st import MOBILENET, SECTIONS, SHARED_DATA, MobileNetV2, embed, read_section
from scipy.sparse import csr_matrix, eye_array
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

import stdistill as sd

K = 5
TEACHERS = ("plain", "centred")
RADIUS_UM = 450
CONTEXT = 3
"""Times the windows of the spots."""
MIN_COUNTS = 200
N_GENES = 2000
N_COMPONENTS = 50
PENALTIES = [{"C": C} for C in np.logspace(-4, 1, 6)]
NETWORK = {"width": 64, "depth": 1}
N_EPOCHS = 10
STANDARDIZED = {"": "training", ", by slide": "slide"}
REGULARIZATION = [{"dropout": dropout, "weight_decay": decay} for dropout, decay in product((0.1, 0.5), (0.05, 20.0))]

Array = np.ndarray


def read(folder: Path, names: Sequence[str], every: int, context: bool) -> ad.AnnData:
    """Read the sections into one table, with features and neighbourhoods."""
    with np.load(folder / MOBILENET) as file:
        encoder = sd.encoders.from_module(MobileNetV2(dict(file)), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    tables = {}
    for name in names:
        section = read_section(folder / "her2st", name, every)
        embed(section, encoder, context=CONTEXT if context else None)
        tables[name] = section["table"]
    spots = ad.concat(tables, label="section", index_unique="-", uns_merge="same")
    spots = spots[np.asarray(spots.X.sum(axis=1)).ravel() >= MIN_COUNTS].copy()
    sd.pp.neighborhoods(spots, radius_um=RADIUS_UM, library_key="section")
    return spots


def neighborhood_means(spots: ad.AnnData, values: Array) -> Array:
    """Mean over each spot and its neighbours."""
    graph = csr_matrix(spots.obsp["spatial_connectivities"] + eye_array(spots.n_obs))
    return (graph @ values) / np.asarray(graph.sum(axis=1)).reshape(-1, 1)


def teach(spots: ad.AnnData, teacher: str) -> None:
    """Fit a teacher to the training spots, and write the logits and niches of all of them."""
    training = (spots.obs["split"] == "train").to_numpy()
    genes = ad.AnnData(spots.X.astype(np.float32))
    sc.pp.normalize_total(genes, target_sum=1e4)
    sc.pp.log1p(genes)
    variable = sc.pp.highly_variable_genes(genes[training], n_top_genes=N_GENES, inplace=False)["highly_variable"]
    expression = genes[:, variable.to_numpy()].to_df()
    if teacher == "centred":
        expression -= expression.groupby(spots.obs["section"].to_numpy()).transform("mean")
    components = PCA(N_COMPONENTS, random_state=0).fit(expression[training])
    means = neighborhood_means(spots, components.transform(expression))
    logits = -(KMeans(K, n_init=10, random_state=0).fit(means[training]).transform(means) ** 2)
    for niche in range(K):
        spots.obs[f"{teacher}_logit_{niche}"] = logits[:, niche].astype(np.float32)
    spots.obs[f"{teacher}_niche"] = pd.Categorical(logits.argmax(axis=1).astype(str))


def leave_out(spots: ad.AnnData, section: str) -> ad.AnnData:
    """Copy the table with the spots of one section as test cells."""
    spots = spots.copy()
    spots.obs["split"] = pd.Categorical(np.where(spots.obs["section"] == section, "test", "train"))
    return spots


def features_around(spots: ad.AnnData, standardize: str = "training") -> tuple[Array, Array]:
    """Neighbourhood means of the features, standardised by the training spots, and which those are."""
    training = (spots.obs["split"] == "train").to_numpy()
    features = spots.obsm["X_he"].astype(float)
    if standardize == "slide":
        for section in spots.obs["section"].unique():
            rows = (spots.obs["section"] == section).to_numpy()
            features[rows] = StandardScaler().fit_transform(features[rows])
    means = neighborhood_means(spots, features)
    return StandardScaler().fit(means[training]).transform(means), training


def logistic_regression(
    spots: ad.AnnData, *, teacher: str, seed: int = 0, standardize: str = "training", **penalty: float
) -> Array:
    """Learn the teacher's niches from neighbourhood means."""
    means, training = features_around(spots, standardize)
    model = LogisticRegression(max_iter=2000, random_state=seed, **penalty)
    return model.fit(means[training], spots.obs[f"{teacher}_niche"][training]).predict(means)


def student(spots: ad.AnnData, *, teacher: str, seed: int = 0, **settings: Any) -> Array:
    """Distil the teacher."""
    given = {"teacher_key": teacher, "library_key": "section", "patience": None, "progress_bar": False}
    sd.tl.distill(spots, k=K, seed=seed, **given, **NETWORK, **settings)
    return spots.obs["student_niche"].to_numpy()


def average(student: Callable[..., Array], spots: ad.AnnData, *, seed: int) -> Array:
    """Average the probabilities of three students of seeds of their own."""
    total = 0
    for own in range(3 * seed, 3 * seed + 3):
        student(spots, seed=own)
        total = total + softmax(spots.obs.filter(like="student_logit_").to_numpy(), axis=1)
    return total.argmax(axis=1).astype(str)


def k_means(spots: ad.AnnData, *, seed: int) -> Array:
    """Cluster neighbourhood means."""
    means, training = features_around(spots)
    return KMeans(K, n_init=10, random_state=seed).fit(means[training]).predict(means)


def histology_nolan(spots: ad.AnnData, *, seed: int, **settings: Any) -> Array:
    """Learn niches from the features alone."""
    given = {"use_rep": "X_he", "key_added": "he_nolan", "library_key": "section", "progress_bar": False}
    sd.tl.nolan(spots, k=K, seed=seed, **given, **NETWORK, **settings)
    return spots.obs["he_nolan_niche"].to_numpy()


def histology_leiden(spots: ad.AnnData, *, seed: int, **settings: Any) -> Array:
    """Cluster the features."""
    sd.tl.leiden(spots, k=K, seed=seed, **settings)
    return spots.obs["he_leiden_niche"].to_numpy()


def choose(
    spots: ad.AnnData, predict: Callable[..., Array], teacher: str, settings: Sequence[dict[str, float]]
) -> Callable[..., Array]:
    """Find the settings with the highest mean ARI over the training sections, each left out in turn."""
    training = spots[spots.obs["split"] == "train"].copy()
    folds = [leave_out(training, section) for section in training.obs["section"].unique()]

    def score(fold: ad.AnnData, chosen: dict[str, float]) -> float:
        test = (fold.obs["split"] == "test").to_numpy()
        predicted = predict(fold, teacher=teacher, **chosen)
        return adjusted_rand_score(fold.obs[f"{teacher}_niche"][test], predicted[test])

    best = max(settings, key=lambda chosen: np.mean([score(fold, chosen) for fold in folds]))
    print(f"  {teacher} teacher: {', '.join(f'{name} {value:g}' for name, value in best.items())}", flush=True)
    return partial(predict, teacher=teacher, **best)


def compare(
    spots: ad.AnnData, section: str, teachers: Sequence[str], seeds: Sequence[int], quick: bool
) -> pd.DataFrame:
    """Measure all methods on one section."""
    print(f"without {section}", flush=True)
    spots = leave_out(spots, section)
    for teacher in teachers:
        teach(spots, teacher)
    spots = spots[:, :0].copy()
    nolan_epochs = {"max_epochs": 1} if quick else {}
    methods = [
        ("k-means", k_means, teachers),
        ("Histology-Leiden", histology_leiden, teachers),
        ("Histology-Leiden, labels", partial(histology_leiden, test="label"), teachers),
        ("Histology-NOLAN", partial(histology_nolan, **nolan_epochs), teachers),
    ]
    distil = partial(student, max_epochs=1 if quick else N_EPOCHS)
    n_tried = 2 if quick else None
    for teacher in teachers:
        for by, standardize in STANDARDIZED.items():
            regress, distilled = (
                choose(spots, partial(method, standardize=standardize), teacher, settings[:n_tried])
                for method, settings in ((logistic_regression, PENALTIES), (distil, REGULARIZATION))
            )
            methods += [
                (f"logistic regression{by}", regress, [teacher]),
                (f"student{by}", distilled, [teacher]),
                (f"three students{by}", partial(average, distilled), [teacher]),
            ]
    rows = []
    for (method, predict, of), seed in product(methods, seeds):
        start = time.perf_counter()
        spots.obs["niche"] = pd.Categorical(predict(spots, seed=seed))
        seconds = time.perf_counter() - start
        for teacher in of:
            agreement = sd.tl.agreement(spots, reference_key=f"{teacher}_niche", keys="niche")
            ari, nmi = agreement.set_index("split").loc["test", ["ari", "nmi"]]
            rows.append((teacher, method, section, seed, ari, nmi, seconds))
    return pd.DataFrame(rows, columns=["teacher", "method", "section", "seed", "ARI", "NMI", "seconds"])


def main() -> None:
    """Compare the methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with her2st and mobilenet_v2_imagenet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--teachers", nargs="+", default=list(TEACHERS), choices=TEACHERS)
    parser.add_argument("--context", action="store_true", help="also see the tissue around each spot")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    arguments = parser.parse_args()
    names, left_out, every, teachers, seeds = SECTIONS, SECTIONS, 1, arguments.teachers, arguments.seeds
    if arguments.quick:
        names, left_out, every, teachers, seeds = SECTIONS[:3], SECTIONS[:1], 4, TEACHERS[:1], arguments.seeds[:1]
    spots = read(arguments.data, names, every, arguments.context)
    n_neighbors = spots.obsp["spatial_connectivities"].nnz / spots.n_obs
    print(f"{', '.join(names)}: {spots.n_obs} spots, {n_neighbors:.1f} neighbours, seeds {seeds}", flush=True)
    rows = pd.concat([compare(spots, section, teachers, seeds, arguments.quick) for section in left_out])
    rows = rows.sort_values("teacher", key=lambda names: names.map(TEACHERS.index), kind="stable")
    measures = ["ARI", "NMI"]
    keys = ["teacher", "method"]
    sections = rows.groupby([*keys, "section"], sort=False)[measures].mean().unstack("section")
    print(f"\nMean over seeds\n{sections.round(2).to_string()}")
    by_seed = rows.groupby([*keys, "seed"], sort=False)[[*measures, "seconds"]].mean()
    means = by_seed.groupby(keys, sort=False).mean()
    spread = by_seed[measures].groupby(keys, sort=False).std().add_suffix(" sd")
    print(f"\nMean over sections and seeds\n{means.join(spread).round(3).to_string()}")


if __name__ == "__main__":
    main()
