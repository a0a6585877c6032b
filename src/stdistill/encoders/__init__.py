"""What is pretrained: H&E image encoders."""

from __future__ import annotations

__all__: list[str] = []
