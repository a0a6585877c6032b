from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import stdistill as sd
from stdistill.encoders._loaders import transformers as transformers_loader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a repository: a DINOv2 of one narrow block."""
    transformers = pytest.importorskip("transformers", reason="the optional package transformers is not installed")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=42)
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def expected(folder: Path, images: torch.Tensor) -> Any:
    import transformers

    with torch.inference_mode():
        return transformers.AutoModel.from_pretrained(folder).eval()(pixel_values=images)


def test_poolings(folder: Path, images: torch.Tensor, expected: Any, attempts: list[Any]) -> None:
    tokens = expected.last_hidden_state
    class_token = sd.encoders.get("phikon-v2", weights=folder).load()
    class_and_mean = sd.encoders.get("midnight", weights=folder).load()
    pooler = sd.encoders.get("hibou-b", weights=folder, trust_remote_code=True).load()
    with torch.inference_mode():
        torch.testing.assert_close(class_token(images), tokens[:, 0])
        torch.testing.assert_close(class_and_mean(images), torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))
        torch.testing.assert_close(pooler(images), expected.pooler_output)
    for module in (class_token, class_and_mean, pooler):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert attempts == []


def test_missing_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    del state["layernorm.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"'phikon-v2': 1 are missing \(layernorm\.weight\)"):
        sd.encoders.get("phikon-v2", weights=folder).load()


def test_code_in_a_repository_does_not_run(folder: Path) -> None:
    marker = folder / "ran"
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = (folder / "config.json").read_text()
    remote = '"auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}, "model_type": "own-model"'
    (folder / "config.json").write_text(config.replace('"model_type": "dinov2"', remote))
    with pytest.raises(ValueError, match="trust_remote_code"):
        sd.encoders.get("phikon-v2", weights=folder).load()
    assert not marker.exists()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "stdistill\[transformers\]"'):
        sd.encoders.get("phikon-v2").load()


def test_code_for_another_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def fail(*_: Any, **__: Any) -> None:
        msg = "No module named 'transformers.onnx'"
        raise ImportError(msg)

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", fail)
    with pytest.raises(ImportError, match=r'transformers\.onnx.*pip install "transformers<5"'):
        transformers_loader.load("hibou-b", pooling="pooler", source=str(folder), runs_code=True)
    with pytest.raises(ImportError, match=r"^No module named"):
        transformers_loader.load("phikon-v2", pooling="class", source=str(folder))
