"""What all processes of the tests inherit; it is set here since it must be before anything large is imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Tests run side by side: threads of torch that wait for each other slow training tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where Python is told to keep no bytecode, as in many containers, every process that a test starts would compile torch
# and scvi-tools anew, which takes most of its time.
if sys.dont_write_bytecode:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(Path(__file__).parent / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False
