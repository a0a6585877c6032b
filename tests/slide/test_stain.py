from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from stdistill._slide.stain import looks_swapped, stain_angle, stain_vectors

GLASS = (242, 240, 243)
VECTORS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])


def mixture(vectors: npt.NDArray[np.float64], *, noise: float = 1.0, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pixels that hold haematoxylin, eosin, and both of them in all shares."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2.0, 0.5, (200, 200, 2)) * rng.dirichlet([0.4, 0.4], (200, 200))
    light = np.array(GLASS) * np.exp(-amounts @ vectors) + rng.normal(0, noise, (200, 200, 3))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.1])
def test_known_vectors(turn: float) -> None:
    true = VECTORS + turn * np.array([[-1, 0.5, 1], [1, -1, 1]])
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    found = stain_vectors([mixture(true), mixture(true, seed=1)], GLASS)
    assert found is not None
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert stain_angle(found, true) < 6


def test_angles() -> None:
    right = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert stain_angle(right, 3 * right) == pytest.approx(0, abs=1e-6)
    assert stain_angle(right, np.array([[1.0, 0, 0], [0, 1, 1]])) == pytest.approx(45)
    assert stain_angle(right, right[::-1]) == pytest.approx(90)


def test_red_and_blue_in_the_place_of_each_other() -> None:
    """Nuclei, of haematoxylin, are the densest."""
    nuclei = mixture(2 * VECTORS[:1].repeat(2, axis=0))
    fields = [mixture(VECTORS), nuclei]
    assert not looks_swapped(fields, GLASS)
    assert looks_swapped([field[..., ::-1] for field in fields], GLASS[::-1])
    assert not looks_swapped([np.full((100, 100, 3), 240, np.uint8)], GLASS)


def test_glass_has_no_stain() -> None:
    assert stain_vectors([np.full((100, 100, 3), 240, np.uint8)], GLASS) is None


def test_halves_of_real_slides_agree(shared_data: Callable) -> None:
    import tifffile

    path = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"  # type: ignore[operator]
    pixels = tifffile.imread(path, key=0)[1200:2700, 800:1600]
    one, other = (stain_vectors([half], (245, 243, 243)) for half in (pixels[:750], pixels[750:]))
    assert one is not None
    assert other is not None
    assert stain_angle(one, other) < 8
