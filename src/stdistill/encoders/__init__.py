"""What is pretrained: H&E image encoders."""

from __future__ import annotations

from stdistill.encoders._encoder import Encoder
from stdistill.encoders._list import list
from stdistill.encoders._module import from_module
from stdistill.encoders._registry import get, register

__all__ = ["Encoder", "from_module", "get", "list", "register"]
