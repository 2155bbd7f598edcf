"""Measure the time and the memory of the command that aligns a folder of pictures.

Adds a measurement to results/own_cost.json, replacing an earlier one of the same pictures.

Usage: python -m tools.own_cost [--images 2000] [--side 64] [-- OPTIONS OF THE COMMAND]

The pictures are letters in a temporary folder, one PNG file each. The command runs in a process of
its own on two threads. "cpu" is what its threads computed, in seconds on one core: on a computer
that does nothing else, two cores need at least half of it, and at most all of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tvae_core import moved
from tvae_core.experiments.records import versions
from tvae_core.moved import Moves
from tvae_core.own import report
from tvae_core.runtime import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "results" / "own_cost.json"
THREADS = 2


def pictures(folder: Path, n: int, side: int) -> None:
    """n letters as PNG files, a thousand at a time."""
    folder.mkdir()
    moves = Moves(degrees=45, shift=side / 8, scale=1.25)
    for start in range(0, n, 1_000):
        some = moved.glyphs(min(1_000, n - start), moves, (side, side), 0.45 * side, seed=start)
        for i, x in enumerate(some.x, start):
            (folder / f"{i}.png").write_bytes(report.png(x))


def measure(n: int, side: int, options: list[str]) -> dict:
    """Seconds and the highest memory of one run of the command."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch, "pictures"), Path(scratch, "out")
        pictures(folder, n, side)
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
        start = time.perf_counter()
        command = [sys.executable, "-m", "tvae_core.align", folder, "--out", out, *options]
        process = subprocess.Popen(command, env=environment)
        _, status, used = os.wait4(process.pid, 0)  # what this one used, and no other child
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        record = json.loads((out / "record.json").read_bytes())
    return {
        "images": n,
        "side": side,
        "options": options,
        "threads": THREADS,
        "epochs": len(record["history"]),
        "seconds": {"wall": round(wall, 1), "cpu": round(used.ru_utime + used.ru_stime, 1)},
        "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("options", nargs="*", help="options of the command, after --")
    chosen = parser.parse_args()
    found = measure(chosen.images, chosen.side, chosen.options)
    known = json.loads(RECORD.read_bytes()) if RECORD.exists() else []
    others = [run for run in known if any(run[k] != found[k] for k in ("images", "side"))]
    record = sorted([*others, found], key=lambda run: run["images"])
    write_atomically(RECORD, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
