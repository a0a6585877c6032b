"""Dense features: which patches are pooled, of which tiles, and for which encoders."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
import timm
import torch
from torch import Tensor, nn

import stdistill as sd
from stdistill.encoders._dense import DensePatches
from stdistill.encoders._registry import resolve

TILE_PX, PATCH_PX = 64, 8  # six patches of a tile are its own, one on either side is left to the next
GRID_PX = 48
PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}


class Colours(nn.Module):
    """In the place of a vision transformer: a prefix token that must not count, and the mean colour of each patch."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.AvgPool2d(PATCH_PX)
        self.patch_embed.patch_size = (PATCH_PX, PATCH_PX)
        self.sizes: list[int] = []

    def forward_features(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        tokens = self.patch_embed(images).flatten(2).mT
        return torch.cat([torch.full_like(tokens[:, :1], 1e6), tokens], dim=1)


def dense() -> DensePatches:
    return DensePatches(Colours(), TILE_PX, "colours")


def window(squares: int, seed: int = 0) -> Tensor:
    return torch.rand(3, squares * GRID_PX, squares * GRID_PX, generator=torch.Generator().manual_seed(seed))


def pooled_by_hand(image: Tensor, origin: Tensor, side_px: int) -> Tensor:
    """The mean colour of all patches of the slide, by the area of each that lies under the disc."""
    disc = shapely.Point(origin + side_px / 2).buffer(side_px / 2, quad_segs=256)
    total, area = torch.zeros(3), 0.0
    for left in range(0, image.shape[2], PATCH_PX):
        for top in range(0, image.shape[1], PATCH_PX):
            under = disc.intersection(shapely.box(left, top, left + PATCH_PX, top + PATCH_PX)).area
            total += under * image[:, top : top + PATCH_PX, left : left + PATCH_PX].mean((1, 2))
            area += under
    return total / area


@pytest.mark.parametrize("side_px", [8, 37, 150])
def test_patches_are_pooled_by_their_area_under_the_disc(side_px: int) -> None:
    """Over the borders of squares, and for discs smaller than a patch and larger than a tile."""
    image = window(8)
    origins = 64 + torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 100
    found = dense().encode_window(image, origins, side_px)
    expected = torch.stack([pooled_by_hand(image, origin, side_px) for origin in origins])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_a_patch_under_the_whole_disc() -> None:
    """By hand: a disc in one patch has its colour, one around a corner the mean of four."""
    image = window(5)
    origins = torch.tensor([[65.0, 65], [68, 68]])
    found = dense().encode_window(image, origins, 6)[0], dense().encode_window(image, origins, 8)[1]
    torch.testing.assert_close(found[0], image[:, 64:72, 64:72].mean((1, 2)))
    torch.testing.assert_close(found[1], image[:, 64:80, 64:80].mean((1, 2)), rtol=1e-3, atol=1e-3)


def test_each_patch_is_of_the_tile_in_whose_middle_it_lies() -> None:
    """Of a network whose tokens tell where in its tile they lie: none is of the border."""

    class Places(Colours):
        def forward_features(self, images: Tensor) -> Tensor:
            places = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).expand(len(images), -1, -1)
            return torch.cat([places[:, :1] + 1e6, places], dim=1)

    module = DensePatches(Places(), TILE_PX, "places")
    centers = torch.arange(9) * PATCH_PX + 2 * GRID_PX + PATCH_PX / 2
    origins = torch.stack([centers, centers.flip(0)], dim=1) - 2
    found = module.encode_window(window(7), origins, 4)
    columns = torch.tensor([1.0, 2, 3, 4, 5, 6, 1, 2, 3])
    torch.testing.assert_close(found, torch.stack([columns.flip(0), columns], dim=1))  # (row, column)


def test_tiles_off_the_discs_are_not_encoded() -> None:
    """Some are taken together, and those that no disc touches not at all."""
    module = dense()
    module.tiles_at_once = 2
    origins = torch.tensor([[100.0, 100], [102, 101], [340, 340]])
    module.encode_window(window(10), origins, 30)  # in the squares at 96 and at 336
    assert module.network.sizes == [2]
    module.encode_window(window(10), torch.tensor([[130.0, 130]]), 30)  # over the corner of four squares
    assert module.network.sizes == [2, 2, 2]


def test_a_feature_depends_on_what_is_said_and_no_more() -> None:
    """Nothing beyond the square that the encoder says it sees, in whatever window."""
    transformer = timm.create_model(
        "vit_tiny_patch16_224", img_size=TILE_PX, patch_size=PATCH_PX, depth=1, embed_dim=12, num_heads=2, num_classes=0
    ).eval()
    encoder = sd.encoders.from_module(transformer, input_px=TILE_PX, name="vit", **PLAIN).dense()
    module, side_px = encoder.load(), 40
    image, noise = window(12), window(12, seed=1)
    origin = torch.tensor([[250.0, 263]])
    with torch.inference_mode():
        found = module.encode_window(image, origin, side_px)  # type: ignore[operator]
        beyond = (encoder.seen_px(side_px) - side_px) // 2
        (left, top), side = (origin[0].long() - beyond).tolist(), encoder.seen_px(side_px)
        other = noise.clone()
        other[:, top : top + side, left : left + side] = image[:, top : top + side, left : left + side]
        assert torch.equal(module.encode_window(other, origin, side_px), found)  # type: ignore[operator]
        corner = GRID_PX * torch.tensor([2, 1])
        moved = module.encode_window(image[:, GRID_PX:, 2 * GRID_PX :], origin - corner, side_px)  # type: ignore[operator]
        torch.testing.assert_close(moved, found, rtol=1e-5, atol=1e-5)
        crop = image[:, 263 : 263 + side_px, 250 : 250 + side_px]
        noise[:, 263 : 263 + side_px, 250 : 250 + side_px] = crop
        assert not torch.allclose(module.encode_window(noise, origin, side_px), found, atol=1e-3)  # type: ignore[operator]


def test_encoders_of_the_catalogue() -> None:
    """Class tokens and means beside them make no difference: the network's patch tokens are taken."""
    for name, dim in (("virchow2", 1280), ("uni2-h", 1536)):
        encoder = sd.encoders.get(name, weights="random")
        tile = encoder.dense()
        assert (tile.name, tile.dim, tile.input_px) == (encoder.name, None, 224)
        assert tile.seen_px(224) == 672 != encoder.seen_px(224) == 224
        assert tile.by_crops() == encoder
        assert tile.dense() is tile
        with torch.device("meta"):
            module = tile.load()
            assert module(torch.empty(1, 3, 224, 224)).shape == (1, dim)
        assert module.per_side == 16
        assert module.grid_px == 168


def test_what_is_recorded() -> None:
    weights = sd.encoders.from_module(Colours(), input_px=TILE_PX, name="colours", **PLAIN)
    (encoder,) = resolve(weights.dense())
    assert encoder.revision == weights.revision
    assert encoder.revision_of_features(32) == f"{weights.revision}-dense-1"
    assert weights.revision_of_features(32) == weights.revision
    assert sd.encoders.get("texture").revision_of_features(160) == "windows-1"


@pytest.mark.parametrize("name", ["texture", "resnet18", "swin_tiny_patch4_window7_224"])
def test_encoders_without_patch_tokens(name: str) -> None:
    encoder = sd.encoders.get(name, weights=None if name == "texture" else "random")
    with pytest.raises(ValueError, match=rf"'{encoder.name}' cannot be dense: it.*vision transformer of timm"):
        encoder.dense().load()


def test_networks_that_do_not_give_what_they_should() -> None:
    encoder = sd.encoders.from_module(Colours(), input_px=16, name="small", **PLAIN)
    with pytest.raises(ValueError, match="tiles of 16 px have to hold at least three whole patches of 8 px"):
        encoder.dense().load()
    encoder = sd.encoders.from_module(Colours(), input_px=60, name="odd", **PLAIN)
    with pytest.raises(ValueError, match="tiles of 60 px have to hold at least three whole patches of 8 px"):
        encoder.dense().load()
    module = DensePatches(Colours(), TILE_PX, "short")
    module.n_prefix = 3
    with pytest.raises(ValueError, match=r"tokens of shape \(2, 65, 3\) for 2 tiles; expected \(2, 67, d\), 3 of them"):
        module(torch.zeros(2, 3, TILE_PX, TILE_PX))


def test_sums_are_not_rounded_in_half_precision() -> None:
    """Tokens may be; the mean of many under a disc is not."""
    image, origins = window(8), torch.tensor([[150.0, 140], [131, 170]])
    expected = dense().encode_window(image, origins, 90)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = dense().encode_window(image, origins, 90)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
