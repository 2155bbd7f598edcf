"""Take finished runs into the repository: their records, and weights of seed 0.

Usage: TVAE_RUNS=FOLDER python tools/collect.py

Records of whole runs go to results/records/RUN-seedSEED-IMAGES.json, those of runs on held-out
training images to results/validation/. Of seed 0 the record on those test images that all seeds
share, the fewest, also goes to tvae_core/pretrained, and for the runs in SHIPPED float16 weights
beside it. What is there already of runs that FOLDER does not hold stays.
"""

import hashlib
import shutil
from pathlib import Path

import safetensors.torch
import torch

from tvae_core.experiments import runs_folder
from tvae_core.explorer.export import SHOWN
from tvae_core.measure import CONVERGED
from tvae_core.recipes import RUNS
from tvae_core.records import load_record

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"paper": "records", "validation": "validation"}  # of results/, by profile
PACKAGE = ROOT / "tvae_core" / "pretrained"
# About 1.2 MB each: the study's nine, which the explorer shows, one more that chapters look into,
# and the IWAEs of the modern recipe near convergence.
SHIPPED = {*SHOWN, "plain-vae-binarized", *CONVERGED}


def main() -> None:
    common: dict[str, tuple[int, Path]] = {}
    for path in sorted(runs_folder().glob("*/record-*.json")):
        record = load_record(path)
        if record.name not in RUNS or record.profile not in FOLDERS:
            continue
        n = record.data["test"]["n"]
        folder = ROOT / "results" / FOLDERS[record.profile]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{record.name}-seed{record.seed}-{n}.json")
        if record.seed == 0 and record.profile == "paper":
            common[record.name] = min(common.get(record.name, (n, path)), (n, path))
        print(f"{record.name}, {record.profile}, seed {record.seed}, {n:,} test images")
    for name, (_, path) in common.items():
        shutil.copy(path, PACKAGE / f"{name}.json")
        if name in SHIPPED:
            weights = safetensors.torch.load_file(path.with_name("weights.safetensors"))
            half = {key: tensor.to(torch.float16) for key, tensor in weights.items()}
            safetensors.torch.save_file(half, PACKAGE / f"{name}.safetensors")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(PACKAGE.glob("*-*"))
    ]
    (PACKAGE / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
