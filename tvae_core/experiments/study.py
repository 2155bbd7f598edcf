"""The numbers printed in the study, unchanged, which the book compares with its own.

Source: github.com/XavierXiao/IWAE-with-Transformation, README. Nats, means over MNIST images.
"""

from __future__ import annotations

from typing import NamedTuple

from tvae_core.experiments.configs import RunName


class Printed(NamedTuple):
    """One model's row in the study's three tables."""

    recon: float
    nll: float
    headed_iwae5: float  # the third table's column "NLL of IWAE"
    headed_multi5: float  # the third table's column "NLL of Multi-sample VAE"


PRINTED = {
    "plain": Printed(88.2669, 101.1427, 98.2965, 93.9943),
    "affine": Printed(83.6312, 99.1765, 96.0623, 92.7514),
    "tps": Printed(82.8589, 97.9127, 93.9956, 92.1647),
}


def nll_of(run: str) -> float | None:
    """The study's NLL for one of the book's runs, or None if it has none.

    The headers of the study's third table are swapped (chapter 6 shows this), so the run
    "plain-iwae5" gets the number printed under "NLL of Multi-sample VAE".
    """
    name = RunName.of(run)
    if name.variant:
        return None
    row = PRINTED[name.decoder]
    columns = {"vae": row.nll, "iwae5": row.headed_multi5, "multi5": row.headed_iwae5}
    return columns.get(name.objective)
