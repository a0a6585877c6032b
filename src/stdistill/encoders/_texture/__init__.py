"""The encoder that needs no weights: its maps, how they are averaged over crops, and what is made of the averages."""

from __future__ import annotations

from stdistill.encoders._texture.encoder import TextureEncoder

__all__ = ["TextureEncoder"]
