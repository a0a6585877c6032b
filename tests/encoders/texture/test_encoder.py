from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import stdistill as sd
from stdistill.encoders._texture import TextureEncoder
from stdistill.encoders._texture.encoder import STAIN_VECTORS
from stdistill.encoders._texture.maps import BLOB_SPACINGS
from stdistill.encoders._texture.statistics import SMALL_DENSITY

SIDE = 224
WHOLE, CENTRE = 0, 1
HAEMATOXYLIN, EOSIN, RESIDUAL = 0, 1, 2
LUMEN, STROMA, NUCLEI, EOSINOPHILIC = 0, 1, 2, 3


@pytest.fixture(scope="module")
def encoder() -> TextureEncoder:
    return TextureEncoder()


def test_it_takes_the_least_side_that_it_announces(encoder: TextureEncoder) -> None:
    side = sd.encoders.get("texture").min_px
    assert side is not None
    assert encoder(torch.ones(1, 3, side, side)).shape == (1, 276)
    with pytest.raises(ValueError, match=f"sides of at least {side} px"):
        encoder(torch.ones(1, 3, side - 1, side - 1))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def dyed(haematoxylin: object = 0.0, eosin: object = 0.0, residual: object = 0.0) -> Tensor:
    """Crops (1, 3, h, w) of the given optical densities, numbers or maps (h, w)."""
    maps = np.broadcast_arrays(haematoxylin, eosin, residual, np.zeros((SIDE, SIDE)))[:3]
    vectors = np.array(STAIN_VECTORS)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.tensor(np.exp(-np.einsum("shw,sc->chw", np.stack(maps), vectors))[None], dtype=torch.float32)


def discs(places: list[tuple[int, int]], radius: float, density: float = 0.8) -> np.ndarray:
    """Discs at (row, column), each on otherwise empty ground (h, w)."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = [(rows - y) ** 2 + (columns - x) ** 2 <= radius**2 for y, x in places]
    return density * np.any(inside, axis=0)


def grid(spacing: int, start: int, n: int) -> list[tuple[int, int]]:
    return [(start + spacing * i, start + spacing * j) for i in range(n) for j in range(n)]


def stripes(period: int, direction: tuple[float, float] = (0, 1)) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    phase = (rows * direction[0] + columns * direction[1]) * 2 * np.pi / period
    return 0.5 + 0.4 * np.sin(phase)


def blurred_noise(rng: np.random.Generator, block: int = 1, mean: float = 0.5, deviation: float = 0.1) -> np.ndarray:
    coarse = rng.normal(mean, deviation, (SIDE // block, SIDE // block))
    return coarse.repeat(block, 0).repeat(block, 1)


def tissue(rng: np.random.Generator, n: int = 1, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Crops of uint8 pixels with structure at several scales."""
    levels = [torch.from_numpy(rng.random((n, 3, height // s, width // s), dtype=np.float32)) for s in (1, 4, 16)]
    mixed = sum(torch.nn.functional.interpolate(level, (height, width)) for level in levels)
    assert isinstance(mixed, Tensor)
    return (mixed / 3 * 255).round() / 255


def blob_count(features: dict[str, Tensor], radius: int) -> float:
    """Features hold the square root of the share of pixels at half resolution."""
    return float(features[f"blob_density_{radius}"][0, WHOLE, 0] ** 2) * (SIDE // 2) ** 2


# What comes out


def test_one_float32_row_per_crop(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    features = encoder(tissue(rng, 3))
    assert features.shape == (3, encoder.dim)
    assert features.dtype == torch.float32
    assert 100 <= encoder.dim <= 300


def test_features_have_names_and_two_windows(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    images = tissue(rng, 2)
    named = encoder.describe(images)
    assert all(values.shape[:2] == (2, 2) for values in named.values())
    assert torch.equal(torch.cat([values.flatten(1) for values in named.values()], dim=1), encoder(images))


def test_no_weights(encoder: TextureEncoder) -> None:
    assert list(encoder.parameters()) == []
    assert encoder.state_dict() == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_computed_in_float32(
    encoder: TextureEncoder, rng: np.random.Generator, dtype: torch.dtype
) -> None:
    images = tissue(rng).to(dtype)
    assert torch.equal(encoder(images), encoder(images.float()))


def test_autocasting_changes_nothing(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    images = tissue(rng)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(images), encoder(images.float()))
        cast = encoder(images)
    assert torch.equal(cast, encoder(images))


def test_same_images_same_features(rng: np.random.Generator) -> None:
    images = tissue(rng, 4)
    assert torch.equal(TextureEncoder()(images), TextureEncoder()(images.clone()))


def test_rows_do_not_depend_on_their_batch(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    images = tissue(rng, 19)  # more than are computed at once
    together = encoder(images)
    assert torch.equal(together, torch.cat([encoder(image[None]) for image in images]))
    assert torch.equal(together.flip(0), encoder(images.flip(0)))


def test_empty_batch(encoder: TextureEncoder) -> None:
    assert encoder(torch.zeros(0, 3, SIDE, SIDE)).shape == (0, encoder.dim)


def test_memory_layout_does_not_matter(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    images = tissue(rng, 2)
    assert torch.equal(encoder(images.contiguous(memory_format=torch.channels_last)), encoder(images))


def test_all_is_computed_on_the_device_of_the_images(rng: np.random.Generator) -> None:
    features = TextureEncoder().to("meta")(tissue(rng, 20).to("meta"))  # refuses tensors of another device
    assert features.device.type == "meta"
    assert features.shape[0] == 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    images = tissue(rng, 20)
    on_gpu = TextureEncoder().to("cuda")(images.to("cuda")).cpu()
    torch.testing.assert_close(on_gpu, encoder(images), rtol=1e-3, atol=1e-4)


# Any image


@pytest.mark.parametrize("size", [(224, 224), (32, 32), (33, 32), (37, 91), (256, 160), (512, 512)])
def test_any_size_has_the_same_finite_features(
    encoder: TextureEncoder, rng: np.random.Generator, size: tuple[int, int]
) -> None:
    features = encoder(tissue(rng, 1, *size))
    assert features.shape == (1, encoder.dim)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("size", [32, 65, 224])
@pytest.mark.parametrize(
    "colour", [(1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.4, 0.2, 0.6)]
)
def test_one_colour(encoder: TextureEncoder, colour: tuple[float, float, float], size: int) -> None:
    images = torch.tensor(colour)[None, :, None, None].expand(1, 3, size, size)
    features = encoder(images)
    assert torch.isfinite(features).all()
    assert features.abs().max() < 20


def test_black_and_white_noise(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    images = torch.from_numpy(rng.integers(0, 2, (2, 3, SIDE, SIDE)).astype(np.float32))
    assert torch.isfinite(encoder(images)).all()
    assert encoder(images).abs().max() < 20


def test_one_pixel_on_white(encoder: TextureEncoder) -> None:
    images = torch.ones(1, 3, SIDE, SIDE)
    images[..., 112, 112] = 0
    features = encoder(images)
    assert torch.isfinite(features).all()
    assert not torch.equal(features, encoder(torch.ones(1, 3, SIDE, SIDE)))


@pytest.mark.parametrize(
    "shape", [(3, 224, 224), (2, 224, 224, 3), (1, 4, 224, 224), (1, 3, 31, 224), (1, 3, 224, 16), (1, 1, 3, 64, 64)]
)
def test_other_shapes_are_refused(encoder: TextureEncoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(b, 3, h, w\)") as error:
        encoder(torch.zeros(shape))
    assert str(shape) in str(error.value)
    assert "32 px" in str(error.value)


# Invariances

TURNS: list[Callable[[Tensor], Tensor]] = [
    lambda images: images.flip(-1),
    lambda images: images.flip(-2),
    lambda images: images.rot90(1, (-2, -1)),
    lambda images: images.rot90(2, (-2, -1)),
    lambda images: images.transpose(-2, -1),
]


@pytest.mark.parametrize("size", [(224, 224), (32, 32), (96, 160)])
@pytest.mark.parametrize("turn", TURNS)
def test_turned_and_flipped_crops_are_the_same(
    encoder: TextureEncoder, rng: np.random.Generator, turn: Callable[[Tensor], Tensor], size: tuple[int, int]
) -> None:
    images = tissue(rng, 2, *size)
    torch.testing.assert_close(encoder(turn(images)), encoder(images), rtol=1e-4, atol=1e-4)


def test_odd_sides_are_nearly_invariant(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    images = tissue(rng, 1, 201, 219)
    assert (encoder(images.flip(-1)) - encoder(images)).abs().mean() < 0.03


# Stain


@pytest.mark.parametrize("stain", [HAEMATOXYLIN, EOSIN, RESIDUAL])
@pytest.mark.parametrize("density", [0.1, 0.7, 2.0])
def test_pure_stains_come_apart(encoder: TextureEncoder, stain: int, density: float) -> None:
    densities = [0.0, 0.0, 0.0]
    densities[stain] = density
    separated = encoder.separate_stains(dyed(*densities)).mean((0, 2, 3))
    torch.testing.assert_close(separated, torch.tensor(densities), rtol=1e-4, atol=1e-5)


def test_mixed_stains_come_apart(encoder: TextureEncoder) -> None:
    separated = encoder.separate_stains(dyed(0.8, 0.3, 0.1)).mean((0, 2, 3))
    torch.testing.assert_close(separated, torch.tensor([0.8, 0.3, 0.1]), rtol=1e-4, atol=1e-5)


def test_haematoxylin_by_hand(encoder: TextureEncoder) -> None:
    # The vector (.65, .70, .29) has length .998; half its optical density leaves exp(-.326), exp(-.351), exp(-.145).
    rgb = torch.tensor([0.7220, 0.7042, 0.8648])[None, :, None, None].expand(1, 3, 32, 32)
    separated = encoder.separate_stains(rgb).mean((0, 2, 3))
    torch.testing.assert_close(separated, torch.tensor([0.5, 0.0, 0.0]), rtol=0, atol=2e-3)


def test_white_has_no_stain_and_black_a_finite_one(encoder: TextureEncoder) -> None:
    assert torch.equal(encoder.separate_stains(torch.ones(1, 3, 4, 4)), torch.zeros(1, 3, 4, 4))
    black = encoder.separate_stains(torch.zeros(1, 3, 4, 4))
    assert torch.equal(black, encoder.separate_stains(torch.full((1, 3, 4, 4), 1 / 255)))


def test_mean_and_deviation(encoder: TextureEncoder) -> None:
    half = np.zeros((SIDE, SIDE))
    half[:, : SIDE // 2] = 0.6
    features = encoder.describe(dyed(half, 0.2))
    for window in (WHOLE, CENTRE):  # the edge runs through the centre
        mean, deviation = features["stain_mean"][0, window], features["stain_deviation"][0, window]
        torch.testing.assert_close(mean, torch.tensor([0.3, 0.2, 0.0]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(deviation, torch.tensor([0.3, 0.0, 0.0]), rtol=1e-4, atol=1e-3)


# Texture


def test_even_stain_has_no_texture(encoder: TextureEncoder) -> None:
    features = encoder.describe(dyed(0.5, 0.3))
    for octave in range(6):
        nothing = torch.full((1, 2, 3), SMALL_DENSITY).log()
        torch.testing.assert_close(features[f"detail_{octave}"], nothing, rtol=0, atol=0.01)
        assert features[f"asymmetry_{octave}"].abs().max() < 1e-3


@pytest.mark.parametrize(("period", "octave"), [(4, 0), (8, 1), (16, 2), (32, 3)])
def test_stripes_are_details_of_their_octave(encoder: TextureEncoder, period: int, octave: int) -> None:
    features = encoder.describe(dyed(stripes(period)))
    details = [float(features[f"detail_{o}"][0, WHOLE, HAEMATOXYLIN]) for o in range(6)]
    assert abs(int(np.argmax(details)) - octave) <= 1


def test_finer_stripes_are_details_of_finer_octaves(encoder: TextureEncoder) -> None:
    features = [encoder.describe(dyed(stripes(period))) for period in (4, 16, 64)]
    details = [[float(f[f"detail_{o}"][0, WHOLE, 0]) for o in range(6)] for f in features]
    largest = [int(np.argmax(d)) for d in details]
    assert largest == sorted(set(largest))


@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (0.6, 0.8), (2**-0.5, 2**-0.5)])
def test_stripes_are_anisotropic(encoder: TextureEncoder, direction: tuple[float, float]) -> None:
    features = encoder.describe(dyed(stripes(12, direction), stripes(12, direction)))
    assert features["anisotropy_0"].min() > 0.95


def test_noise_is_isotropic(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    features = encoder.describe(dyed(blurred_noise(rng), blurred_noise(rng)))
    assert features["anisotropy_0"].max() < 0.35


def test_anisotropy_is_of_each_stain(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    fibres = encoder.describe(dyed(blurred_noise(rng), stripes(12)))["anisotropy_0"][0, WHOLE]
    assert fibres[EOSIN] > 0.9
    assert fibres[HAEMATOXYLIN] < 0.4


def test_dark_spots_and_bright_holes_are_opposite(encoder: TextureEncoder) -> None:
    spots = discs(grid(28, 14, 8), 4)
    dark = encoder.describe(dyed(spots))["asymmetry_2"][0, WHOLE, HAEMATOXYLIN]
    bright = encoder.describe(dyed(0.8 - spots))["asymmetry_2"][0, WHOLE, HAEMATOXYLIN]
    assert dark > 0.02
    torch.testing.assert_close(bright, -dark, rtol=1e-2, atol=1e-3)


def test_stains_together_apart_and_independent(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    one, other = blurred_noise(rng, block=2), blurred_noise(rng, block=2)
    together, apart, independent = (
        encoder.describe(dyed(one, eosin))["stain_correlation_1"][0, WHOLE] for eosin in (one, 1 - one, other)
    )
    pair = EOSIN  # eosin with the stain before it, haematoxylin
    assert together[pair] > 0.85
    assert apart[pair] < -0.85
    assert abs(independent[pair]) < 0.1


def test_details_in_clumps_fluctuate_more(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    noise = blurred_noise(rng, mean=0)
    blocks = np.kron(np.indices((7, 7)).sum(0) % 2, np.ones((32, 32)))
    everywhere, in_clumps = (
        encoder.describe(dyed(0.5 + noise * where))["clustering_0"][0, WHOLE] for where in (np.ones_like(noise), blocks)
    )
    haematoxylin = slice(0, None, 2)
    assert (in_clumps[haematoxylin] > everywhere[haematoxylin] + 0.2).all()


# Nuclei


@pytest.mark.parametrize("radius", list(BLOB_SPACINGS))
def test_discs_answer_at_their_radius(encoder: TextureEncoder, radius: int) -> None:
    features = encoder.describe(dyed(discs([(112, 112)], radius)))
    # The disc is the only blob, so that the mean at blobs is its own.
    responses = {r: float(features[f"at_blobs_{r}"][0, CENTRE, 0]) for r in BLOB_SPACINGS}
    assert max(responses, key=responses.__getitem__) == radius


@pytest.mark.parametrize("n", [1, 3, 5])
def test_discs_are_counted(encoder: TextureEncoder, n: int) -> None:
    features = encoder.describe(dyed(discs(grid(40, 25, n), 6)))
    assert blob_count(features, 6) == pytest.approx(n**2, rel=0.1)


def test_faint_discs_count_less(encoder: TextureEncoder) -> None:
    counts = [
        blob_count(encoder.describe(dyed(discs(grid(40, 25, 5), 6, density))), 6) for density in (0.05, 0.15, 0.8)
    ]
    assert counts[0] < 1
    assert counts[0] < counts[1] < counts[2]


def test_eosin_and_even_tissue_have_no_nuclei(encoder: TextureEncoder) -> None:
    for image in (dyed(0.0, discs(grid(40, 25, 5), 6)), dyed(1.0, 0.3), torch.ones(1, 3, SIDE, SIDE)):
        features = encoder.describe(image)
        assert all(blob_count(features, radius) < 0.5 for radius in BLOB_SPACINGS)


def test_stains_at_nuclei(encoder: TextureEncoder) -> None:
    nuclei = discs(grid(40, 25, 5), 6, density=0.9)
    response, haematoxylin, eosin = encoder.describe(dyed(nuclei, 0.4))["at_blobs_6"][0, WHOLE]
    assert 0.2 < response < 0.9
    assert haematoxylin == pytest.approx(0.9, abs=0.1)
    assert eosin == pytest.approx(0.4, abs=0.05)


def test_unlike_nuclei_vary(encoder: TextureEncoder) -> None:
    dark, pale = discs(grid(80, 25, 3), 6, density=1.2), discs(grid(80, 65, 2), 6, density=0.6)
    alike = encoder.describe(dyed(discs(grid(40, 25, 5), 6)))["blob_variation_6"][0, WHOLE, 0]
    # 9 nuclei of 1.2 and 4 of 0.6 have a standard deviation of 0.28.
    varied = encoder.describe(dyed(dark + pale))["blob_variation_6"][0, WHOLE, 0]
    assert alike < 0.05
    assert varied == pytest.approx(0.28, abs=0.06)


def test_crowded_nuclei_have_neighbours(encoder: TextureEncoder) -> None:
    crowded, scattered = (
        encoder.describe(dyed(discs(grid(spacing, 30, 4), 4)))["blob_neighbours_3"][0, WHOLE, 0] for spacing in (16, 48)
    )
    assert crowded > 1.3 * scattered


# Architecture


@pytest.mark.parametrize(
    ("stains", "tissue_class"),
    [((0.0, 0.0), LUMEN), ((0.3, 0.35), STROMA), ((1.0, 0.3), NUCLEI), ((0.15, 1.0), EOSINOPHILIC)],
)
def test_classes(encoder: TextureEncoder, stains: tuple[float, float], tissue_class: int) -> None:
    shares = encoder.describe(dyed(*stains))["class_share"][0, WHOLE] ** 2
    assert shares.sum() == pytest.approx(1, abs=1e-4)
    assert int(shares.argmax()) == tissue_class


def test_classes_side_by_side(encoder: TextureEncoder) -> None:
    fine, coarse = (np.kron(np.indices((n, n)).sum(0) % 2, np.ones((SIDE // n, SIDE // n))) for n in (28, 4))
    pairs = {
        name: encoder.describe(dyed(0.9 * squares, 0.3 * squares))["class_pairs_1"][0, WHOLE]
        for name, squares in (("fine", fine), ("coarse", coarse))
    }
    lumen_and_nuclei, nuclei_and_nuclei = 2, 7  # of (0, 0), (0, 1), (0, 2), …, (2, 2), (2, 3), (3, 3)
    assert pairs["fine"][lumen_and_nuclei] > 1.3 * pairs["coarse"][lumen_and_nuclei]
    assert pairs["fine"][nuclei_and_nuclei] < pairs["coarse"][nuclei_and_nuclei]


# Around the centre


def test_the_centre_sees_the_centre(encoder: TextureEncoder) -> None:
    features = encoder.describe(dyed(discs([(112, 112)], 12)))
    assert features["stain_mean"][0, CENTRE, HAEMATOXYLIN] > 3 * features["stain_mean"][0, WHOLE, HAEMATOXYLIN]
    assert features["blob_density_12"][0, CENTRE, 0] > features["blob_density_12"][0, WHOLE, 0]


def test_the_centre_does_not_see_the_rim(encoder: TextureEncoder, rng: np.random.Generator) -> None:
    within = blurred_noise(rng, block=4)
    rim = np.ones((SIDE, SIDE), dtype=bool)
    rim[12:-12, 12:-12] = False
    plain = encoder.describe(dyed(within))
    stained = encoder.describe(dyed(np.where(rim, 1.5, within)))
    change = (stained["stain_mean"] - plain["stain_mean"])[0, :, HAEMATOXYLIN]
    assert change[WHOLE] > 0.15
    assert change[CENTRE] < 0.15 * change[WHOLE]
    for octave in range(3):
        change = (stained[f"detail_{octave}"] - plain[f"detail_{octave}"])[0, :, HAEMATOXYLIN]
        assert change[CENTRE] < 0.4 * change[WHOLE]


def test_windows_of_an_even_crop_agree(encoder: TextureEncoder) -> None:
    for values in encoder.describe(dyed(0.4, 0.3, 0.1)).values():
        torch.testing.assert_close(values[:, WHOLE], values[:, CENTRE], rtol=1e-3, atol=1e-3)
