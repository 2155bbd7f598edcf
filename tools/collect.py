"""Copy finished runs into the repository: all their records, and some weights of seed 0.

Usage: TVAE_RUNS=FOLDER python tools/collect.py

One record of each run ships with the package: that of seed 0 on the fewest test images, on which
every seed is evaluated. The runs in SHIPPED ship with weights in float16 as well. All other records
of the profiles "paper" and "validation" go into the archive in results/. Records already in the
repository are kept if FOLDER does not have their runs.
"""

from pathlib import Path

import safetensors.torch
import torch

from tvae_core.experiments import archive, runner
from tvae_core.experiments.configs import RUNS
from tvae_core.experiments.kinds import CONVERGED, STRAIGHT
from tvae_core.experiments.records import RunRecord, load_record
from tvae_core.experiments.results import ARCHIVE, FOLDER
from tvae_core.experiments.runner import runs_folder
from tvae_core.explorer.export import SHOWN

PROFILES = ("paper", "validation")
# About 1.2 MB each: the nine models of the study, which the explorer shows, another that chapters
# look into, and the IWAEs of the modern recipe at 200 epochs; and, 1.7 MB each, those whose
# encoder sees the straightened image.
SHIPPED = {*SHOWN, "plain-vae-binarized", *CONVERGED, *STRAIGHT}


def main() -> None:
    found = {path: load_record(path) for path in sorted(runs_folder().glob("*/record-*.json"))}
    found = {p: r for p, r in found.items() if r.name in RUNS and of_the_book(r)}
    ships: dict[str, tuple[int, Path]] = {}
    for path, record in found.items():
        print(
            f"{record.name}, {record.profile}, seed {record.seed}, {images(record):,} test images"
        )
        if record.seed == 0 and record.profile == "paper":
            candidate = images(record), path
            ships[record.name] = min(ships.get(record.name, candidate), candidate)
    for name, (_, path) in ships.items():
        found.pop(path).save(FOLDER / f"{name}.json")
        if name in SHIPPED:
            weights = safetensors.torch.load_file(path.with_name("weights.safetensors"))
            half = {key: tensor.to(torch.float16) for key, tensor in weights.items()}
            safetensors.torch.save_file(half, FOLDER / f"{name}.safetensors")
    kept = {archive.key_of(record): record for record in archive.read(ARCHIVE)}
    archive.write({**kept, **{archive.key_of(r): r for r in found.values()}}.values(), ARCHIVE)
    archive.write_sums(FOLDER, {p.name: p.read_bytes() for p in sorted(FOLDER.glob("*-*"))})


def of_the_book(record: RunRecord) -> bool:
    """Whether a run has a profile of the book, and was trained on that profile's images."""
    trained_on = record.data["train"]["name"]
    return record.profile in PROFILES and trained_on == runner.PROFILES[record.profile].dataset


def images(record: RunRecord) -> int:
    return record.data["test"]["n"]


if __name__ == "__main__":
    main()
