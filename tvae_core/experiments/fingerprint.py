"""A hash of what code computes: was a record made by code that behaves like today's?

Behaviour is what counts: a tiny, seeded case is computed in float64, its numbers are rounded, and
their text is hashed. Renaming, moving and rewording leave it as it is; another sign, axis, schedule
or setting does not. `runner.fingerprint` and `measure.fingerprint` choose the cases.

Computed in float64 and rounded to 1e-4, the numbers are the same on every processor and for any
number of threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
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
    """A block that computes in float64, seeded, and prints nothing."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with seeded(0), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        torch.set_default_dtype(before)


def digest(numbers: Any) -> str:
    """16 hexadecimal digits for numbers in nested lists and dictionaries, rounded."""
    return hashlib.sha256(json.dumps(_rounded(numbers)).encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0  # without the sign of a zero
    return value
