from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill.models.niche.card import ModelCard

NETWORK = {"width": 8, "depth": 1, "n_heads": 2, "n_frequencies": 2, "dropout": 0.0, "head": "linear"}


@pytest.fixture
def history() -> pd.DataFrame:
    epochs = np.arange(20)
    decay = np.exp(-epochs / 5)
    return pd.DataFrame(
        {
            "training_loss": 3 * decay + 0.4,
            "occupied_niches": np.minimum(10, 2 + epochs),
            "largest_niche": 0.9 * decay + 0.1,
            "size_entropy": 1 - 0.7 * decay,
            "target_entropy": decay,
            "effective_rank": 2 + epochs / 9,
        },
        index=pd.Index(epochs, name="epoch"),
    )


def test_teacher(history: pd.DataFrame, check_image: Callable) -> None:
    axes = sd.pl.training(history, show=False)
    check_image("training")
    titles = ["loss", "entropy", "occupied niches", "largest niche", "effective rank"]
    assert [ax.get_title() for ax in axes] == titles
    np.testing.assert_array_equal(axes[2].lines[0].get_ydata(), history["occupied_niches"])
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["target_entropy", "size_entropy"]


def test_losses_share_a_panel_and_others_have_their_own(history: pd.DataFrame) -> None:
    history = history[["training_loss"]].assign(validation_loss=np.nan, accuracy=0.5)
    history.loc[10:, "validation_loss"] = 1.0
    loss, accuracy = sd.pl.training(history, show=False)
    assert [len(line.get_xdata()) for line in loss.lines] == [20, 10]
    assert accuracy.get_title() == "accuracy"


def test_a_model(history: pd.DataFrame) -> None:
    card = ModelCard("distillation", 2, "X_he", 4, 30.0, ["a", "b"], ["red", "blue"], network=NETWORK)
    model = sd.models.NicheModel(card.build_network(), card, history[["training_loss"]])
    ax = sd.pl.training(model, show=False)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), history["training_loss"])


def test_colors_in_their_order_or_by_measure(history: pd.DataFrame) -> None:
    history = history[["training_loss", "occupied_niches"]].assign(validation_loss=1.0)
    loss, occupied = sd.pl.training(history, palette=["#ff0000", "#0000ff"], show=False)
    assert [line.get_color() for line in (*loss.lines, *occupied.lines)] == ["#ff0000", "#0000ff", "#ff0000"]
    by_name = {"occupied_niches": "#000001", "training_loss": "#000002", "validation_loss": "#000003"}
    loss, occupied = sd.pl.training(history, palette=by_name, show=False)
    assert [line.get_color() for line in (*loss.lines, *occupied.lines)] == ["#000002", "#000003", "#000001"]
    with pytest.raises(ValueError, match="palette has 1 colours; 2 are needed"):
        sd.pl.training(history, palette=["red"])


def test_what_is_no_history(history: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"Expected the frame that model.history returns, found str"):
        sd.pl.training("student/")
    with pytest.raises(ValueError, match="has 0 rows"):
        sd.pl.training(history[:0])
    with pytest.raises(ValueError, match=r"has 20 rows and the columns \[\]"):
        sd.pl.training(history[[]])


def test_what_an_alignment_logs_is_grouped() -> None:
    """Each side has a panel, with a line for each scale that was aligned."""
    scales = ("micro", "macro")
    names = [f"{name}_{scale}" for name in ("alignment", "uniformity_he", "uniformity_expression") for scale in scales]
    history = pd.DataFrame({name: [1.0, 0.5] for name in [*names, "training_loss"]})
    axes = sd.pl.training(history, show=False)
    assert [ax.get_title() for ax in axes] == [
        "loss",
        "alignment",
        "uniformity of the H&E",
        "uniformity of expression",
    ]
    assert [len(ax.lines) for ax in axes] == [1, 2, 2, 2]


def test_each_training_of_a_composition_model_is_a_line() -> None:
    """Two networks, each trained without some rows and then with all; which it was is no measure."""
    runs = [
        pd.DataFrame({"training_loss": np.arange(3.0) + number, "member": member, "all_rows": all_rows})
        for number, (member, all_rows) in enumerate([(0, False), (0, True), (1, False), (1, True)])
    ]
    panel = sd.pl.training(pd.concat(runs), show=False)
    assert panel.get_title() == "loss"
    assert [line.get_ydata().tolist() for line in panel.lines] == [run["training_loss"].tolist() for run in runs]
