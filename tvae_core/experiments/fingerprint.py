"""A hash of what the code computes, to check that a record was made by code that behaves the same.

A tiny, seeded case is computed in float64, its numbers are rounded to 1e-4, and their text is
hashed. Rounded in this way, they are the same on every processor and for any number of threads.
Renaming, moving or rewording code does not change the hash, but a different sign, axis, schedule or
setting does. `runner.fingerprint` and `measure.fingerprint` choose the cases.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import torch

from tvae_core import data
from tvae_core.data import Images
from tvae_core.runtime import seeded

DECIMALS = 4


def digits(n: int, split: str = "train") -> Images:
    """The first n bundled digits, on the CPU."""
    return data.load("mini", split)[:n]


@contextlib.contextmanager
def in_double_precision() -> Iterator[None]:
    """A seeded block that computes in float64 on one thread and prints nothing.

    On so small a case several threads mostly wait for each other.
    """
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        with seeded(0), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        torch.set_default_dtype(before)
        torch.set_num_threads(threads)


def digest(numbers: Any) -> str:
    """16 hexadecimal digits from the rounded numbers in nested lists and dictionaries."""
    text = json.dumps(rounded(numbers, DECIMALS, math.nan))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rounded(value: Any, decimals: int, nan: float | None = None) -> Any:
    """The floats in nested lists and dictionaries, rounded; `nan` stands in for NaN."""
    if isinstance(value, dict):
        return {name: rounded(part, decimals, nan) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part, decimals, nan) for part in value]
    if isinstance(value, float):
        return nan if math.isnan(value) else round(value, decimals) + 0.0  # not -0.0
    return value
