"""Put finished paper runs of seed 0 into tvae_core/pretrained: float16 weights and the record.

Usage: TVAE_RUNS=FOLDER python tools/export_pretrained.py
"""

import hashlib
import shutil
from pathlib import Path

import safetensors.torch
import torch

from tvae_core.experiments import runs_folder
from tvae_core.recipes import RUNS

TARGET = Path(__file__).parents[1] / "tvae_core" / "pretrained"


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    for name in RUNS:
        finished = list(runs_folder().glob(f"{name}-paper-seed0-*/record.json"))
        if len(finished) != 1:
            print(f"{name}: {len(finished)} finished runs in {runs_folder()}, want 1; left alone")
            continue
        shutil.copy(finished[0], TARGET / f"{name}.json")
        weights = safetensors.torch.load_file(finished[0].with_name("weights.safetensors"))
        half = {key: tensor.to(torch.float16) for key, tensor in weights.items()}
        safetensors.torch.save_file(half, TARGET / f"{name}.safetensors")
        print(f"{name}: exported")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(TARGET.iterdir())
        if path.suffix in (".json", ".safetensors")
    ]
    (TARGET / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
