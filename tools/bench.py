"""Time tvae_core against the same models in tutorial style, on this machine.

Usage: python tools/bench.py [--repeats 7] [--out results/bench]

Writes one record for the processor: gpu.json where there is a CUDA GPU, otherwise a file named
after the vector instructions that torch uses, such as avx2.json.

Both styles train the same networks on the bundled digits with the study's optimizer, and compute
the NLL of the same trained models. They take turns, so that a busy moment of the machine hits both,
and each runs in a process of its own, so that neither profits from memory that the other has kept.
A CPU is measured twice: with one run on all cores, as a reader trains, and with one run on each
core, as `reproduce` trains a grid. A GPU also trains several seeds side by side, and the time
recorded is that of one seed. Leave the machine alone while this runs.
"""

import argparse
import contextlib
import functools
import io
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tvae_core import data, evaluation, load_pretrained, models, training
from tvae_core.experiments import PROFILES, Job, runner, stacking
from tvae_core.experiments.acceleration import (
    Compiled,
    accelerated_step,
    fast_arithmetic,
    rows_at_once,
    timed,
)
from tvae_core.experiments.configs import DECODERS, RUNS
from tvae_core.experiments.records import device_name
from tvae_core.runtime import pick_device, seeded, write_atomically

RECORDS = Path(__file__).resolve().parents[1] / "results" / "bench"
EPOCH = 60_000  # images; times measured on the bundled digits are scaled to this many
RUN_OF = {1: "{}-vae", 5: "{}-iwae5"}  # the run that is trained with k draws
KS = (100, 1_000, 5_000, 20_000, 50_000)  # numbers of draws at which the NLL's memory is measured
NLL_IMAGES = {"cpu": 16, "cuda": 100}
SIDE_BY_SIDE = 5  # seeds

# Tutorial style.
#
# Plain PyTorch with nothing slow on purpose, and with the habits that public implementations share:
# images come one by one through a DataLoader and its transforms; k draws are k copies of an image
# through the whole model; the sampling grid and the spline's system of equations are made in each
# forward pass; the NLL is a loop over images; and the loss is read back after each batch.

DIM_U = {"plain": 0, "affine": 6, "tps": 18}


class Digits(Dataset):
    """Images that are PIL pictures and transformed on access, like torchvision's MNIST."""

    def __init__(self, pixels, transform):
        self.pixels = pixels.squeeze(1).numpy()
        self.transform = transform

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.pixels[index], mode="L"))


def loader(pixels, batch_size, binarize):
    from torchvision import transforms  # `job_of` has prepared the import

    steps = [transforms.ToTensor()]
    if binarize:
        steps.append(transforms.Lambda(torch.bernoulli))
    return DataLoader(
        Digits(pixels, transforms.Compose(steps)), batch_size=batch_size, shuffle=True
    )


class TutorialVAE(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.dim_u = kind, DIM_U[kind]
        self.dim_z = 60 - self.dim_u
        self.encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.mu_z = nn.Linear(256, self.dim_z)
        self.log_sigma = nn.Linear(256, 60)
        self.decoder = nn.Sequential(
            nn.Linear(self.dim_z, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 784),
        )
        if self.dim_u:
            self.mu_u = nn.Linear(256, self.dim_u)
            self.pose = nn.Linear(self.dim_u, self.dim_u)
            nn.init.normal_(self.pose.weight, std=0.1)
            nn.init.zeros_(self.pose.bias)

    def encode(self, x):
        h = self.encoder(x.view(-1, 784))
        mu = self.mu_z(h)
        if self.dim_u:
            mu = torch.cat([mu, torch.tanh(self.mu_u(h))], dim=1)
        return mu, self.log_sigma(h)

    def decode(self, latents):
        probs = torch.sigmoid(self.decoder(latents[:, : self.dim_z]))
        if self.dim_u:
            theta = self.pose(latents[:, self.dim_z :])
            grid = affine_grid(theta) if self.kind == "affine" else tps_grid(theta)
            image = F.grid_sample(probs.view(-1, 1, 28, 28), grid, align_corners=False)
            probs = image.view(-1, 784)
            probs = 1e-6 + (1 - 2e-6) * probs
        return probs

    def forward(self, x):
        mu, log_sigma = self.encode(x)
        latents = mu + torch.exp(log_sigma) * torch.randn_like(mu)
        return self.decode(latents), latents, mu, log_sigma


def affine_grid(theta):
    identity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], device=theta.device)
    return F.affine_grid(
        theta.view(-1, 2, 3) + identity, (len(theta), 1, 28, 28), align_corners=False
    )


def tps_grid(theta):
    """Solves for the spline of each image in the batch and evaluates it at every pixel."""
    line = torch.linspace(-1, 1, 3, device=theta.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    control = torch.stack([x.flatten(), y.flatten()], dim=1)

    def rows(points):
        squared = torch.cdist(points, control, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        kernel = squared * torch.log(squared + 1e-9)
        return torch.cat([kernel, torch.ones(len(points), 1, device=theta.device), points], dim=1)

    system = torch.zeros(12, 12, device=theta.device)
    system[:9] = rows(control)
    system[9:, :9] = rows(control)[:, 9:].T
    displaced = torch.zeros(len(theta), 12, 2, device=theta.device)
    displaced[:, :9] = theta.view(-1, 2, 9).transpose(1, 2)
    weights = torch.linalg.solve(system.expand(len(theta), 12, 12), displaced)
    identity = torch.eye(2, 3, device=theta.device).unsqueeze(0)
    pixels = F.affine_grid(identity, (1, 1, 28, 28), align_corners=False).view(784, 2)
    return (pixels + rows(pixels) @ weights).view(-1, 28, 28, 2)


def log_weights(model, x, k):
    """log p(x, latents) - log q(latents | x) for k copies of each of B images, as (k, B)."""
    copies = x.view(-1, 784).repeat(k, 1)
    probs, latents, mu, log_sigma = model(copies)
    log_lik = -F.binary_cross_entropy(probs, copies, reduction="none").sum(1)
    log_prior = (-0.5 * latents**2 - 0.5 * math.log(2 * math.pi)).sum(1)
    noise = (latents - mu) / torch.exp(log_sigma)
    log_q = (-0.5 * noise**2 - log_sigma - 0.5 * math.log(2 * math.pi)).sum(1)
    return (log_lik + log_prior - log_q).view(k, -1)


def vae_loss(model, x):
    probs, _, mu, log_sigma = model(x)
    recon = F.binary_cross_entropy(probs, x.view(-1, 784), reduction="sum")
    kl = -0.5 * torch.sum(1 + 2 * log_sigma - mu**2 - torch.exp(2 * log_sigma))
    return (recon + kl) / len(x)


def iwae_loss(model, x, k):
    return -(torch.logsumexp(log_weights(model, x, k), dim=0) - math.log(k)).mean()


def train_epoch(model, data_loader, optimizer, k):
    total = 0.0
    for x in data_loader:
        x = x.to(next(model.parameters()).device)
        loss = vae_loss(model, x) if k == 1 else iwae_loss(model, x, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    return total / len(data_loader.dataset)


@torch.no_grad()
def nll(model, images, k):
    """-log p(x) of each image from k draws, one image at a time."""
    values = []
    for x in images:
        log_w = log_weights(model, x.unsqueeze(0), k)
        values.append(math.log(k) - torch.logsumexp(log_w, dim=0).item())
    return torch.tensor(values)


def with_weights_of(trained, model):
    """`model` with the weights of a model of tvae_core, whose layers have other names."""
    names = {
        "canonical.": "",
        "encoder.body": "encoder",
        "encoder.mu": "mu",
        "encoder.log_sigma": "log_sigma",
        "decoder.body": "decoder",
        "decoder.logits": "decoder.4",
        "decoder.pose": "pose",
    }
    weights = {}
    for key, tensor in trained.named_parameters():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        weights[key] = tensor.detach()
    model.load_state_dict(weights)
    return model


# Measuring.


@functools.cache
def job_of(run: str) -> Job:
    """A run on the bundled digits, as many as fill its batches.

    Only one of the 469 batches of a real epoch is short; a short one here would weigh more.
    """
    data.import_torchvision_datasets()
    digits = data.load("mini", "train").to(pick_device())
    size = RUNS[run].batch_size
    return Job(run, RUNS[run], PROFILES["paper"], digits[: len(digits) // size * size])


def our_epoch(run: str, stack: int | None = None) -> float:
    """Seconds for 60,000 images, timed in the second epoch: in the first, code is compiled.

    With a `stack`, that many seeds train side by side, and the time is that of one.
    """
    job = job_of(run)
    with seeded(0), fast_arithmetic(), contextlib.redirect_stdout(io.StringIO()):
        model = runner.untrained(job.config, job.images, 0)
        rows = training.fit(
            stacking.stack([model] * stack) if stack else model,
            runner.batches(job.config, job.images, stack),
            job.config.gradient,
            k=job.config.k,
            epochs=2,
            optimizer=job.config.make_optimizer,
            accelerate=accelerated_step,
        )
    return rows[-1]["seconds"] * EPOCH / len(job.images) / (stack or 1)


def tutorial_epoch(run: str) -> float:
    """Seconds for 60,000 images."""
    job = job_of(run)
    with seeded(0):
        model = TutorialVAE(job.config.model).to(job.images.pixels.device)
        optimizer = torch.optim.Adadelta(model.parameters())
        dynamic = job.config.binarization == "dynamic"
        batches = loader(job.images.pixels.cpu(), job.config.batch_size, dynamic)
        seconds = timed(lambda: train_epoch(model, batches, optimizer, job.config.k))
    return seconds * EPOCH / len(job.images)


@functools.cache
def trained(kind: str) -> tuple[models.VAE, TutorialVAE, data.Images]:
    """A trained model, its twin in tutorial style with the same weights, and test digits."""
    device = pick_device()
    model = load_pretrained(f"{kind}-iwae5").model
    twin = with_weights_of(model, TutorialVAE(kind)).to(device)
    return model, twin, data.binarize_fixed(data.load("mini", "test")).to(device)


def tutorial_nll(kind: str, n: int, k: int) -> float:
    """Seconds per image for the NLL of the first n bundled test digits from k draws."""
    _, twin, digits = trained(kind)
    return timed(lambda: nll(twin, digits[:n].x, k)) / n


@fast_arithmetic()
def our_nll(kind: str, n: int, k: int, fast: bool = False) -> float:
    """The same for tvae_core; if `fast`, without the first batch, in which code is compiled."""
    model, _, digits = trained(kind)
    batches: list[tuple[float, int]] = []  # when each batch began, and its number of images

    def begin(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        batches.append((time.perf_counter(), len(inputs[0])))

    hook = model.encoder.register_forward_pre_hook(begin)
    try:
        rows = rows_at_once(digits.pixels.device)
        evaluation.nll(model, digits[:n], k, rows=rows, accelerate=Compiled if fast else None)
    finally:
        hook.remove()
    start, left_out = (batches[1][0], batches[0][1]) if fast else (batches[0][0], 0)
    return (time.perf_counter() - start) / (n - left_out)


NLL_WAYS = {"tutorial": tutorial_nll, "tvae_core": our_nll}


def peak_of(way: str, k: int) -> float:
    """MB by which a fresh process grows, at its peak, for the NLL of one image."""
    with own_process() as process:
        return process.submit(growth_at_peak, way, k).result()


def growth_at_peak(way: str, k: int) -> float:
    trained("plain")
    if pick_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        NLL_WAYS[way]("plain", 1, k)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text(
        "5", encoding="utf-8"
    )  # Linux: the peak counts from here
    NLL_WAYS[way]("plain", 1, k)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """MB of memory that this process has now (VmRSS), or had at its peak (VmHWM)."""
    (line,) = (
        x for x in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if field in x
    )
    return int(line.split()[1]) * 1024 / 1e6


def own_process() -> ProcessPoolExecutor:
    """A fresh process, which imports this file and runs what it is given."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def medians(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median seconds of each way; they take turns, each in a process of its own."""
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(own_process()) for name in ways}
        tries = [
            {name: processes[name].submit(way).result() for name, way in ways.items()}
            for _ in range(repeats)
        ]
    return {name: statistics.median(one[name] for one in tries) for name in ways}


def measure(repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Seconds of training and of the NLL, in both styles."""
    device = pick_device().type
    epochs, nlls = [], []
    for kind in DECODERS:
        for k, name in RUN_OF.items():
            run = name.format(kind)
            ways = {
                "tutorial": functools.partial(tutorial_epoch, run),
                "tvae_core": functools.partial(our_epoch, run),
            }
            if device == "cuda":
                ways["side by side"] = functools.partial(our_epoch, run, SIDE_BY_SIDE)
            epochs.append({"decoder": kind, "k": k, **medians(ways, repeats)})
        ways = {
            "tutorial": functools.partial(tutorial_nll, kind, NLL_IMAGES[device], 5_000),
            "tvae_core": functools.partial(
                our_nll, kind, NLL_IMAGES[device], 5_000, fast=device == "cpu"
            ),
        }
        nlls.append({"decoder": kind, **medians(ways, repeats)})
    return {"seconds_per_epoch": epochs, "seconds_per_nll": nlls}


def measure_on_each_core(repeats: int, cores: int) -> dict[str, list[dict[str, Any]]]:
    """The same with as many runs at once as there are cores, one thread each: their means."""
    # The processes that do the work read this when they start.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with ThreadPoolExecutor(cores) as pool:
        found = list(pool.map(measure, [repeats] * cores))
    return {
        kind: [
            {**rows[0], **{way: statistics.mean(row[way] for row in rows) for way in NLL_WAYS}}
            for rows in zip(*(one[kind] for one in found), strict=True)
        ]
        for kind in found[0]
    }


def cpu_name() -> str:
    """What the CPU's maker calls it, if the system knows; otherwise its family, such as x86_64."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="tries behind each median")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder for the record")
    chosen = parser.parse_args()
    device, cores = pick_device(), torch.get_num_threads()
    vectors = torch.backends.cpu.get_cpu_capability()
    cuda = device.type == "cuda"
    record = {
        "processor": device_name(device) if cuda else f"{cpu_name()}, {vectors}",
        "cpu": cpu_name(),
        "cores": cores,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "tries": dict.fromkeys(("seconds_per_epoch", "seconds_per_nll"), chosen.repeats),
    }
    if cuda:
        record["seeds_side_by_side"] = SIDE_BY_SIDE
    record |= measure(chosen.repeats)
    record["peak_mb"] = [{"k": k, **{way: peak_of(way, k) for way in NLL_WAYS}} for k in KS]
    if not cuda and cores > 1:
        record["on_each_core"] = measure_on_each_core(chosen.repeats, cores)
    text = json.dumps(record, indent=1) + "\n"
    write_atomically(chosen.out / f"{'gpu' if cuda else vectors.lower()}.json", text.encode())
    print(text)


if __name__ == "__main__":
    main()
