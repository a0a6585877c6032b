"""The mathematics of the niche models against plain float64 references."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stdistill.models.niche.batches import Neighborhoods, Tokens
from stdistill.models.niche.distillation import default_temperature, distillation_loss
from stdistill.models.niche.network import NicheNetwork
from stdistill.models.niche.position import frequency_features


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@given(
    n=st.integers(1, 6),
    k=st.integers(1, 7),
    temperature=st.floats(0.05, 10),
    scale=st.floats(0.1, 5),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=50, deadline=None)
def test_loss(n: int, k: int, temperature: float, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    teacher, student = scale * rng.normal(size=(2, n, k))
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    divergences = [
        sum(p[i, j] * (math.log(p[i, j]) - math.log(q[i, j])) for j in range(k) if p[i, j] > 0) for i in range(n)
    ]
    expected = temperature**2 * sum(divergences) / n
    found = distillation_loss(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_loss_by_hand() -> None:
    """Teacher (1/2, 1/2), student (3/4, 1/4), τ = 2: 4 · (½ ln(½ / ¾) + ½ ln(½ / ¼)) = 2 ln(4/3)."""
    student = 2 * torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    loss = distillation_loss(student, torch.zeros(1, 2, dtype=torch.float64), 2.0)
    assert loss.item() == pytest.approx(2 * math.log(4 / 3))


def test_gradient_of_the_loss() -> None:
    """τ / n · (student - teacher), softened: the teacher is the target, not the other way round."""
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 4, 3))
    logits = torch.from_numpy(student).requires_grad_()
    distillation_loss(logits, torch.from_numpy(teacher), 0.5).backward()
    expected = 0.5 / 4 * (softmax(student / 0.5) - softmax(teacher / 0.5))
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-12)


@given(scale=st.floats(1e-3, 1e3), k=st.integers(2, 20), seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_default_temperature(scale: float, k: int, seed: int) -> None:
    logits = scale * np.random.default_rng(seed).normal(size=(50, k))
    p = softmax(logits / default_temperature(logits))
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1).mean()
    assert entropy == pytest.approx(0.25 * math.log(k), rel=5e-3)


def test_default_temperature_of_logits_without_information() -> None:
    assert default_temperature(np.zeros((5, 1))) == 1
    assert default_temperature(np.full((5, 4), 2.0)) == 1
    assert np.isfinite(default_temperature(np.tile([1.0, 1.0, 0.0], (5, 1))))  # ties at any temperature


def test_frequency_features() -> None:
    offsets = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    found = frequency_features(torch.from_numpy(offsets), 4).numpy()
    for row, (x, y) in zip(found, offsets, strict=True):
        sines = [math.sin(2**level * math.pi * p) for p in (x, y) for level in range(4)]
        cosines = [math.cos(2**level * math.pi * p) for p in (x, y) for level in range(4)]
        np.testing.assert_allclose(row, sines + cosines, atol=1e-5)


def test_frequency_features_of_the_centre() -> None:
    found = frequency_features(torch.zeros(1, 2), 3)
    assert found.tolist() == [[0.0] * 6 + [1.0] * 6]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def plain_logits(network: NicheNetwork, data: Neighborhoods, cell: int) -> np.ndarray:
    """The logits of one cell, written down token by token in float64, all tokens through all layers."""
    w = {name: value.detach().double().numpy() for name, value in network.state_dict().items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        centered = x - x.mean(axis=-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    tokens = [w["class_token"]]
    for other in [cell, *data.indices[data.indptr[cell] : data.indptr[cell + 1]]]:
        features = np.asarray(data.features[other], dtype=np.float64)
        if np.isnan(features).any():
            continue
        offset = (data.centers[other] - data.centers[cell]) / data.radius_um
        phases = [2**level * math.pi * p for p in offset for level in range(network.position.n_frequencies)]
        position = linear("position.linear", np.array([*map(math.sin, phases), *map(math.cos, phases)]))
        tokens.append(linear("project", (features - w["mean"]) / w["std"]) + position)
    x = np.array(tokens)
    for number, layer in enumerate(network.layers):
        name = f"layers.{number}"
        normed = norm(f"{name}.norm_attention", x)
        query = linear(f"{name}.query", normed)
        key, value = np.split(linear(f"{name}.key_value", normed), 2, axis=1)
        heads = []
        for q, k, v in zip(*(np.split(part, layer.n_heads, axis=1) for part in (query, key, value)), strict=True):
            heads.append(softmax(q @ k.T / math.sqrt(q.shape[1])) @ v)
        x = x + linear(f"{name}.out", np.concatenate(heads, axis=1))
        hidden = gelu(linear(f"{name}.mlp.0", norm(f"{name}.norm_mlp", x)))
        x = x + linear(f"{name}.mlp.2", hidden)
    read = norm("norm", x[0])
    if "head.weight" in w:
        return linear("head", read)
    for number in (0, 2):
        read = gelu(linear(f"head.mlp.{number}", read))
    bottleneck = linear("head.mlp.4", read)
    prototypes = w["head.prototypes"] / np.linalg.norm(w["head.prototypes"], axis=1, keepdims=True)
    return prototypes @ bottleneck / np.linalg.norm(bottleneck)


@pytest.mark.parametrize("head", ["linear", "prototypes"])
def test_padded_batch_equals_cell_by_cell(
    make_neighborhoods: Callable, make_network: Callable[..., NicheNetwork], head: str
) -> None:
    """Padding, masks, blocks, shared projections and the shortened last layer change nothing."""
    features = np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)
    features[::9, 2] = np.nan
    data = make_neighborhoods(features=features)
    network = make_network(head=head)
    cells = np.flatnonzero(data.known)[:100]
    with torch.inference_mode():
        found = network(data.batch(data.tokens(cells))).numpy()
    counts = np.diff(data.indptr)[cells]
    assert counts.max() > 2 * counts.min()
    expected = np.array([plain_logits(network, data, cell) for cell in cells])
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=2e-4)
    assert np.ptp(expected, axis=0).max() > 0.1


def test_where_a_cell_sits_in_a_batch(make_neighborhoods: Callable, make_network: Callable) -> None:
    data, network = make_neighborhoods(), make_network()
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        together = network(data.batch(data.tokens(np.arange(200)))).numpy()
        for _ in range(3):
            cells = rng.permutation(200)[: rng.integers(1, 150)]
            np.testing.assert_allclose(network(data.batch(data.tokens(cells))), together[cells], atol=1e-4)


def test_order_of_neighbours(make_neighborhoods: Callable, make_network: Callable) -> None:
    data, network = make_neighborhoods(), make_network()
    cells = np.arange(40)
    tokens = data.tokens(cells)
    order = np.lexsort((np.random.default_rng(0).random(len(tokens.cells)), tokens.center))
    shuffled = Tokens(cells, tokens.center, tokens.cells[order], tokens.offsets[order])
    assert (shuffled.cells != tokens.cells).any()
    with torch.inference_mode():
        np.testing.assert_allclose(network(data.batch(shuffled)), network(data.batch(tokens)), atol=1e-4)


def test_moving_the_slide(make_neighborhoods: Callable, make_network: Callable) -> None:
    """Only relative positions count."""
    data, network = make_neighborhoods(), make_network()
    moved = Neighborhoods(
        data.features, data.indptr, data.indices, data.centers + np.array([5e4, -3e4]), data.radius_um
    )
    with torch.inference_mode():
        found, expected = (network(each.batch(each.tokens(np.arange(50)))) for each in (moved, data))
    np.testing.assert_allclose(found, expected, atol=1e-4)
