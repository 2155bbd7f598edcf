"""Measure tvae_core against tutorial-style code, side by side, on this machine.

Written to results/bench: on a machine with a GPU to gpu.json, elsewhere to a file that is named
after the vector instructions that torch uses, as in avx2.json.

Usage: python tools/bench.py [--repeats 7]

Both train the same networks on the bundled digits with the study's optimizer, in turns, so that a
busy moment of the machine meets both, and each in a process of its own. On a CPU that is done
twice: one run on all cores, as a reader trains, then one on each core at once, as `reproduce`
trains a grid. On a GPU a third way is measured, several seeds side by side, of which the time of
one is told. Leave the machine alone meanwhile.

The host of a virtual machine moves its cores about: to places that share a cache, and to others. A
run on several cores takes its medians from tries of the first kind, and tells those of the second
beside them.
"""

import argparse
import contextlib
import functools
import io
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import tutorial_style
from torch.utils.flop_counter import FlopCounterMode

from tvae_core import data, evaluation, load_pretrained, models, training
from tvae_core.acceleration import can_compile, fast_arithmetic
from tvae_core.experiments import PROFILES, Job
from tvae_core.recipes import DECODERS, OPTIMIZERS, RUNS
from tvae_core.runtime import (
    device_name,
    pick_device,
    seeded,
    timed,
    write_atomically,
)

RECORDS = Path(__file__).resolve().parents[1] / "results" / "bench"
EPOCH = 60_000  # images; times on the bundled digits are told for this many
RUN_OF = {1: "{}-vae", 5: "{}-iwae5"}  # what is trained, by k
KS = (100, 1_000, 5_000, 20_000, 50_000)  # at which the memory of the NLL is measured
NLL_IMAGES = {"cpu": 16, "cuda": 100}
SHARED = 150  # nanoseconds, there and back, from core to core: more than with a shared cache
SIDE_BY_SIDE = 5  # seeds trained at once


def flops_per_second(device: torch.device) -> float:
    """In large float32 matrix products, by the faster library: the most that layers could reach."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device)

    def product() -> float:
        return statistics.median(timed(lambda: a @ a) for _ in range(10))

    with fast_arithmetic():
        ours = product()
    return 2 * size**3 / min(ours, product())


def flops_of_epoch(job: Job) -> float:
    """FLOPs of the matrix products in training on 60,000 images."""
    with seeded(0):
        model, x = job.untrained(0), next(iter(job.batches()))
    with FlopCounterMode(display=False) as counter:
        (-job.config.gradient(model.particles(x, job.config.k)).mean()).backward()
    return counter.get_total_flops() * EPOCH / len(x)


@functools.cache
def job_of(run: str) -> Job:
    """A run on as many bundled digits as fill its batches: of 60,000 the last of 469 is short."""
    data.import_torchvision_datasets()
    digits = data.load("mini", "train").to(pick_device())
    size = RUNS[run].batch_size
    return Job(run, RUNS[run], PROFILES["paper"], digits[: len(digits) // size * size])


def our_epoch(run: str, stack: int | None = None) -> float:
    """Seconds for 60,000 images; a first epoch, in which code is compiled, does not count.

    With a `stack` that many seeds train side by side, of which the time of one is told.
    """
    job = job_of(run)
    with seeded(0), fast_arithmetic(), contextlib.redirect_stdout(io.StringIO()):
        model = job.untrained(0)
        rows = training.fit(
            models.stack([model] * stack) if stack else model,
            job.batches(stack),
            job.config.gradient,
            k=job.config.k,
            epochs=2,
            optimizer=OPTIMIZERS[job.config.optimizer],
            fast=True,
        )
    return rows[-1]["seconds"] * EPOCH / len(job.images) / (stack or 1)


def tutorial_epoch(run: str) -> float:
    job = job_of(run)
    with seeded(0):
        model = tutorial_style.TransformerVAE(job.config.model).to(job.images.pixels.device)
        optimizer = torch.optim.Adadelta(model.parameters())
        loader = tutorial_style.loader(
            job.images.pixels.cpu(), job.config.batch_size, job.config.binarization == "dynamic"
        )
        seconds = timed(lambda: tutorial_style.train_epoch(model, loader, optimizer, job.config.k))
    return seconds * EPOCH / len(job.images)


def epoch_at_the_limit(flops: float) -> float:
    """Seconds for that many FLOPs if all were large matrix products."""
    return flops / flops_per_second(pick_device())


@functools.cache
def trained(kind: str) -> tuple[models.VAE, tutorial_style.TransformerVAE, data.Images]:
    """Both ways' model with the same weights, and test digits."""
    device = pick_device()
    model = load_pretrained(f"{kind}-iwae5").model
    tutorial = tutorial_style.load_from(tutorial_style.TransformerVAE(kind), model)
    return model, tutorial.to(device), data.binarize_fixed(data.load("mini", "test")).to(device)


def tutorial_nll(kind: str, n: int, k: int) -> float:
    """Seconds an image for the NLL of the first n bundled test digits from k draws."""
    _, tutorial, digits = trained(kind)
    return timed(lambda: tutorial_style.nll(tutorial, digits[:n].x, k)) / n


@fast_arithmetic()
def our_nll(kind: str, n: int, k: int, fast: bool = False) -> float:
    """The same. If `fast`, the first batch, in which code is compiled, does not count."""
    model, _, digits = trained(kind)
    batches: list[tuple[float, int]] = []  # when each began, and its images

    def begin(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        batches.append((time.perf_counter(), len(inputs[0])))

    hook = model.encoder.register_forward_pre_hook(begin)
    try:
        rows = evaluation.rows_at_once(digits.pixels.device)
        evaluation.nll(model, digits[:n], k, rows=rows, fast=fast)
    finally:
        hook.remove()
    start, left_out = (batches[1][0], batches[0][1]) if fast else (batches[0][0], 0)
    return (time.perf_counter() - start) / (n - left_out)


NLL = {"tutorial": tutorial_nll, "tvae_core": our_nll}


def peak_of(way: str, k: int) -> float:
    """MB that the NLL of one image takes at its peak: on a CPU in a process of its own."""
    if pick_device().type == "cuda":
        trained("plain")
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        NLL[way]("plain", 1, k)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    command = [sys.executable, __file__, "--peak", way, str(k)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(way: str, k: int) -> None:
    trained("plain")
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here
    NLL[way]("plain", 1, k)
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    """MB of memory that this process has now (VmRSS) or had at its peak (VmHWM)."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if field in x)
    return int(line.split()[1]) * 1024 / 1e6


def processor() -> str:
    """Its maker's name for it, where the system tells; else the family, as in x86_64."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


@functools.cache
def core_to_core_program() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """The compiled program, and the folder that it lies in, which goes with the process."""
    # Here, as a process whose memory is measured need not import the compiler.
    from torch._inductor.cpp_builder import get_cpp_compiler

    folder = tempfile.TemporaryDirectory()
    program = Path(folder.name) / "core_to_core"
    source = Path(__file__).with_name("core_to_core.cpp")
    options = ["-O2", "-std=c++11", "-pthread", str(source), "-o", str(program)]
    subprocess.run([get_cpp_compiler(), *options], check=True)
    return program, folder


def core_to_core() -> float:
    """Nanoseconds in which a cache line goes from one core of this process to another and back."""
    program, _ = core_to_core_program()
    cores = sorted(os.sched_getaffinity(0))[:2]
    command = [str(program), *map(str, cores)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def cores_are_apart() -> bool:
    """Whether this process computes on cores that share no cache just now, where one can tell."""
    several = can_compile(pick_device().type) and torch.get_num_threads() > 1
    return several and core_to_core() > SHARED


def medians(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, Any]:
    """The median seconds of each way, tried in turns.

    Each has a process of its own, as in use: memory that one has its process keep would serve the
    other. If cores were apart in some tries, "apart" has the medians of those.
    """
    spawn = multiprocessing.get_context("spawn")
    tries: dict[bool, list[dict[str, float]]] = {False: [], True: []}  # by whether cores are apart
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(ProcessPoolExecutor(1, spawn)) for name in ways}
        while len(tries[False]) < repeats and len(tries[True]) < 2 * repeats:
            before = cores_are_apart()
            seconds = {name: processes[name].submit(way).result() for name, way in ways.items()}
            tries[before or cores_are_apart()].append(seconds)

    def summary(some: list[dict[str, float]]) -> dict[str, Any]:
        seconds = {name: statistics.median(one[name] for one in some) for name in ways}
        return {**seconds, "tries": len(some)}

    if not tries[False]:
        return summary(tries[True])
    return summary(tries[False]) | ({"apart": summary(tries[True])} if tries[True] else {})


def measure(repeats: int) -> dict[str, Any]:
    """Seconds of training and of the NLL, both ways, with the threads that this process has."""
    device = pick_device()
    n = NLL_IMAGES[device.type]
    epochs, nlls, limits = [], [], []
    for kind in DECODERS:
        for k, name in RUN_OF.items():
            run = name.format(kind)
            ways = {
                "tutorial": functools.partial(tutorial_epoch, run),
                "tvae_core": functools.partial(our_epoch, run),
            }
            if device.type == "cuda":
                ways["side by side"] = functools.partial(our_epoch, run, SIDE_BY_SIDE)
            # The seconds of an epoch at the machine's limit, in turns with the others: a neighbour
            # of a virtual machine slows all of them down.
            flops = flops_of_epoch(job_of(run))
            ways["limit"] = functools.partial(epoch_at_the_limit, flops)
            row = {"model": kind, "k": k, **medians(ways, repeats)}
            limit = row.pop("limit")
            limits.append(flops / limit)
            row.get("apart", {}).pop("limit", None)
            if device.type == "cpu":  # a GPU's steps round to TF32, which has another limit
                row["share of limit"] = limit / row["tvae_core"]
            epochs.append(row)
        per_image = {
            "tutorial": functools.partial(tutorial_nll, kind, n, 5_000),
            "tvae_core": functools.partial(our_nll, kind, n, 5_000, fast=device.type == "cpu"),
        }
        nlls.append({"model": kind, **medians(per_image, repeats)})
    return {
        "device": device_name(device),
        "matmul_limit_gflops": statistics.median(limits) / 1e9,
        "seconds_per_epoch": epochs,
        "seconds_per_nll": nlls,
    }


def measure_on_each_core(repeats: int, cores: int) -> dict[str, Any]:
    """The same in as many processes at once as there are cores, one thread each: their means."""
    command = [sys.executable, __file__, "--repeats", str(repeats), "--worker"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(cores)
    ]
    told = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        sys.exit("a worker has failed; see above")
    found = [json.loads(lines.splitlines()[-1]) for lines in told]

    def means(name: str) -> list[dict[str, Any]]:
        """Row by row: what is measured as a mean, what it was measured on as it is."""
        return [
            {
                key: statistics.mean(row[key] for row in rows)
                if isinstance(value, float)
                else value
                for key, value in rows[0].items()
            }
            for rows in zip(*(one[name] for one in found), strict=True)
        ]

    return {
        "device": f"CPU, {cores} runs at once of 1 thread each",
        "matmul_limit_gflops": sum(one["matmul_limit_gflops"] for one in found),
        "seconds_per_epoch": means("seconds_per_epoch"),
        "seconds_per_nll": means("seconds_per_nll"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peak", nargs=2, metavar=("WAY", "K"), help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        return print_peak(chosen.peak[0], int(chosen.peak[1]))
    if chosen.worker:
        return print(json.dumps(measure(chosen.repeats)))
    cores = torch.get_num_threads()
    record = measure(chosen.repeats) | {
        "cores": cores,
        "processor": processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "repeats": chosen.repeats,
        "peak_mb": [{"k": k, **{way: peak_of(way, k) for way in NLL}} for k in KS],
    }
    if pick_device().type == "cpu" and cores > 1:
        record["on_each_core"] = measure_on_each_core(chosen.repeats, cores)
    text = json.dumps(record, indent=1) + "\n"
    cuda = pick_device().type == "cuda"
    name = "gpu" if cuda else torch.backends.cpu.get_cpu_capability().lower()
    write_atomically(RECORDS / f"{name}.json", text.encode())
    print(text)


if __name__ == "__main__":
    main()
