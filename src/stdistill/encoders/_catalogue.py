"""The encoders that have a name here, each as its authors built it.

Sources, where a row names no other: the authors' READMEs (mahmoodlab/UNI, prov-gigapath/prov-gigapath,
mahmoodlab/CONCH), and TRIDENT, THUNDER and LazySlide, which agree on them; precision as in TRIDENT; licence, commercial
use and gate as in LazySlide. Numbers of parameters of the timm networks are counted. None of the weights could be
loaded when this was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from stdistill.encoders._encoder import Encoder
from stdistill.encoders._loaders import conch, timm, transformers

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
H_OPTIMUS_MEAN, H_OPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
HIBOU_MEAN, HIBOU_STD = (0.7068, 0.5755, 0.7220), (0.1950, 0.2316, 0.1816)

CC_BY_NC_ND = "CC-BY-NC-ND-4.0"
CLASS_TOKEN = "class token"
CLASS_AND_MEAN = "class token and mean of patch tokens"

H_OPTIMUS = {"img_size": 224, "init_values": 1e-5, "global_pool": "token", "dynamic_img_size": False}
UNI2_H = {
    "img_size": 224,
    "patch_size": 14,
    "depth": 24,
    "num_heads": 24,
    "init_values": 1e-5,
    "embed_dim": 1536,
    "mlp_ratio": 2.66667 * 2,
    "no_embed_class": True,
    "reg_tokens": 8,
    "dynamic_img_size": True,
}


def _load_texture() -> nn.Module:
    from stdistill.encoders._texture import TextureEncoder

    return TextureEncoder().eval()


def _timm_encoder(
    name: str, source: str, architecture: str, arguments: Mapping[str, Any], *, swiglu: bool = False, **card: Any
) -> Encoder:
    """Describe an encoder that timm builds; all of them take 224 px."""
    class_and_mean = card.setdefault("pooling", CLASS_TOKEN) == CLASS_AND_MEAN
    load = partial(
        timm.load, name, architecture, arguments=arguments, source=source, swiglu=swiglu, class_and_mean=class_and_mean
    )
    return Encoder(name=name, source=source, load=load, input_px=224, **card)


_ENCODERS = (
    Encoder(
        name="texture",
        dim=276,
        load=_load_texture,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        licence="BSD-3-Clause",
        commercial=True,
        n_params=0,
        reference="stdistill",
        pooling="averages over the crop and around its centre",
        windows_from_px=160,
        min_px=32,
    ),
    _timm_encoder(
        "uni2-h",
        "MahmoodLab/UNI2-h",
        "vit_giant_patch14_224",
        UNI2_H,
        swiglu=True,
        dim=1536,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        precision="bfloat16",
        licence=CC_BY_NC_ND,
        commercial=False,
        gated=True,
        n_params=681_394_176,
        reference="https://doi.org/10.1038/s41591-024-02857-3",
    ),
    _timm_encoder(
        "uni",
        "MahmoodLab/UNI",
        "vit_large_patch16_224",
        {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True},
        dim=1024,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        precision="float16",
        licence=CC_BY_NC_ND,
        commercial=False,
        gated=True,
        n_params=303_350_784,
        reference="https://doi.org/10.1038/s41591-024-02857-3",
    ),
    _timm_encoder(
        "h-optimus-0",
        "bioptimus/H-optimus-0",
        "vit_giant_patch14_reg4_dinov2",
        H_OPTIMUS,
        dim=1536,
        mean=H_OPTIMUS_MEAN,
        std=H_OPTIMUS_STD,
        interpolation="bicubic",
        precision="float16",
        licence="Apache-2.0",
        commercial=True,
        gated=False,
        n_params=1_134_774_272,
        reference="https://github.com/bioptimus/releases",
    ),
    _timm_encoder(
        "h-optimus-1",
        "bioptimus/H-optimus-1",
        "vit_giant_patch14_reg4_dinov2",
        H_OPTIMUS,
        dim=1536,
        mean=H_OPTIMUS_MEAN,
        std=H_OPTIMUS_STD,
        interpolation="bicubic",
        precision="float16",
        licence=CC_BY_NC_ND,
        commercial=False,
        gated=True,
        n_params=1_134_774_272,
        reference="https://huggingface.co/bioptimus/H-optimus-1",
    ),
    # Architecture and ratio follow from its published tokens (1 + 4 + 256, of 768) and 85.7 M parameters.
    _timm_encoder(
        "h0-mini",
        "bioptimus/H0-mini",
        "vit_base_patch14_reg4_dinov2",
        {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334, "global_pool": ""},
        swiglu=True,
        dim=1536,
        mean=H_OPTIMUS_MEAN,
        std=H_OPTIMUS_STD,
        interpolation="bicubic",
        precision="float16",
        licence=CC_BY_NC_ND,
        commercial=False,
        gated=True,
        n_params=85_739_520,
        reference="https://doi.org/10.48550/arXiv.2501.16239",
        pooling=CLASS_AND_MEAN,
    ),
    _timm_encoder(
        "virchow2",
        "paige-ai/Virchow2",
        "vit_huge_patch14_224",
        {
            "img_size": 224,
            "init_values": 1e-5,
            "reg_tokens": 4,
            "mlp_ratio": 5.3375,
            "global_pool": "",
            "dynamic_img_size": True,
        },
        swiglu=True,
        dim=2560,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        interpolation="bicubic",
        precision="float16",
        licence=CC_BY_NC_ND,
        commercial=False,
        gated=True,
        n_params=631_239_424,
        reference="https://doi.org/10.48550/arXiv.2408.00738",
        pooling=CLASS_AND_MEAN,
    ),
    _timm_encoder(
        "prov-gigapath",
        "prov-gigapath/prov-gigapath",
        "vit_giant_patch14_dinov2",
        {"img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334},
        dim=1536,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        resize_px=256,
        interpolation="bicubic",
        precision="float16",
        licence="Apache-2.0 with conditions: research use only",
        commercial=False,
        gated=True,
        n_params=1_134_953_984,
        reference="https://doi.org/10.1038/s41586-024-07441-w",
    ),
    Encoder(
        name="phikon-v2",
        source="owkin/phikon-v2",
        dim=1024,
        load=partial(transformers.load, "phikon-v2", pooling="class", source="owkin/phikon-v2"),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        input_px=224,
        licence="Owkin non-commercial",
        commercial=False,
        gated=False,
        n_params=303_400_000,
        reference="https://doi.org/10.48550/arXiv.2409.09173",
        pooling=CLASS_TOKEN,
    ),
    Encoder(
        name="midnight",
        source="kaiko-ai/midnight",
        dim=3072,
        load=partial(transformers.load, "midnight", pooling="class_and_mean", source="kaiko-ai/midnight"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        input_px=224,
        precision="float16",
        licence="MIT",
        commercial=True,
        gated=None,  # LazySlide says yes; TRIDENT loads it without a word on it
        n_params=1_140_000_000,
        reference="https://doi.org/10.48550/arXiv.2504.05186",
        pooling=CLASS_AND_MEAN,
    ),
    *(
        Encoder(
            name=f"hibou-{size}",
            source=source,
            dim=dim,
            load=partial(transformers.load, f"hibou-{size}", pooling="pooler", source=source, runs_code=True),
            mean=HIBOU_MEAN,
            std=HIBOU_STD,
            input_px=224,
            interpolation="bicubic",
            licence="Apache-2.0",
            commercial=True,
            gated=None,  # LazySlide says yes; TRIDENT loads it without a word on it
            n_params=n_params,
            reference="https://doi.org/10.48550/arXiv.2406.05074",
            pooling="the network's own pooler",
        )
        for size, source, dim, n_params in (
            ("l", "histai/hibou-L", 1024, 303_700_000),
            ("b", "histai/hibou-b", 768, 85_700_000),
        )
    ),
    Encoder(
        name="conch",
        source="MahmoodLab/conch",
        dim=512,
        load=partial(conch.load, "conch", source="MahmoodLab/conch"),
        mean=CLIP_MEAN,
        std=CLIP_STD,
        input_px=448,
        interpolation="bicubic",
        licence=CC_BY_NC_ND,
        commercial=False,
        gated=True,
        n_params=395_200_000,  # with its text encoder and decoder
        reference="https://doi.org/10.1038/s41591-024-02856-4",
        pooling="attention, before the projection to text",
    ),
)
CATALOGUE: dict[str, Encoder] = {encoder.name: encoder for encoder in _ENCODERS}
RUNS_CODE = frozenset({"hibou-l", "hibou-b"})
"""Encoders whose repository brings its own Python code."""
