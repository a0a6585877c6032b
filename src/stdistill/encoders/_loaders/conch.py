"""The image encoder of CONCH, built by its authors' package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stdistill.encoders._checkpoint import check_fit, read
from stdistill.encoders._hub import RANDOM, fetch

if TYPE_CHECKING:
    from torch import nn


def load(name: str, *, source: str, revision: str | None = None) -> nn.Module:
    """Build CONCH with weights from the hub, or from a local file or folder."""
    if source == RANDOM:
        msg = f"The package of {name!r} builds it with its weights only: there are no random weights for it."
        raise ValueError(msg)
    try:
        from conch.open_clip_custom import create_model_from_pretrained
    except ImportError as error:
        msg = f"The encoder {name!r} needs its authors' package: pip install git+https://github.com/mahmoodlab/CONCH"
        raise ImportError(msg) from error
    from stdistill.encoders._loaders.pooling import ImageTower

    path = fetch(name, source, revision)
    # The package may unpickle the file, and loads it without looking at what is missing: both are checked here.
    state = read(path)
    network = create_model_from_pretrained("conch_ViT-B-16", checkpoint_path=str(path), return_transform=False)
    check_fit(network, state, path, name=name)
    return ImageTower(network).float().eval().requires_grad_(False)
