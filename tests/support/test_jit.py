from __future__ import annotations

import subprocess
import sys


def test_kernels_compile_where_no_cache_can_be_written() -> None:
    """As in a read-only container without a home: every place that numba would write to is refused."""
    code = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from stdistill._support.jit import njit

@njit(nogil=True, cache=True)
def double(x):
    return 2 * x

print(double(21))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "42"
