"""Take finished paper runs into the repository: their records, and the weights of seed 0.

Usage: TVAE_RUNS=FOLDER python tools/collect.py

Every record goes to results/records/RUN-seedSEED-IMAGES.json; of seed 0 the one on most test
images also goes to tvae_core/pretrained, beside float16 weights. What is there already of runs
that FOLDER does not hold stays.
"""

import hashlib
import shutil
from pathlib import Path

import safetensors.torch
import torch

from tvae_core.experiments import runs_folder
from tvae_core.recipes import RUNS
from tvae_core.records import load_record

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "results" / "records"
PACKAGE = ROOT / "tvae_core" / "pretrained"


def main() -> None:
    RECORDS.mkdir(parents=True, exist_ok=True)
    largest: dict[str, tuple[int, Path]] = {}
    for path in sorted(runs_folder().glob("*-paper-seed*/record-*.json")):
        record = load_record(path)
        if record.name not in RUNS:
            continue
        n = record.data["test"]["n"]
        shutil.copy(path, RECORDS / f"{record.name}-seed{record.seed}-{n}.json")
        if record.seed == 0:
            largest[record.name] = max(largest.get(record.name, (0, path)), (n, path))
        print(f"{record.name}, seed {record.seed}, {n:,} test images")
    for name, (_, path) in largest.items():
        shutil.copy(path, PACKAGE / f"{name}.json")
        weights = safetensors.torch.load_file(path.with_name("weights.safetensors"))
        half = {key: tensor.to(torch.float16) for key, tensor in weights.items()}
        safetensors.torch.save_file(half, PACKAGE / f"{name}.safetensors")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(PACKAGE.iterdir())
        if path.suffix in (".json", ".safetensors")
    ]
    (PACKAGE / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
