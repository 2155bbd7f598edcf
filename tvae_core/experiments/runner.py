"""Trains and measures the book's runs, at the size that a profile sets, and stores the results.

This module puts all the others together; `python -m tvae_core.reproduce` calls it for many runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from tvae_core import data, evaluation, models, training
from tvae_core.checks import check_known, checked
from tvae_core.data import Images
from tvae_core.experiments import stacking
from tvae_core.experiments.acceleration import (
    Compiled,
    accelerated_step,
    fast_arithmetic,
    rows_at_once,
)
from tvae_core.experiments.configs import PAPER_ON_CPU, PROFILES, RUNS, Config, Profile
from tvae_core.experiments.fingerprint import digest, digits, in_double_precision
from tvae_core.experiments.records import Machine, RunRecord, load_record, versions
from tvae_core.experiments.results import Run, build, load_pretrained, load_weights
from tvae_core.models import VAE
from tvae_core.runtime import locked, pick_device, seeded, write_atomically


def current_profile() -> Profile:
    """The profile named by `TVAE_PROFILE`; by default "paper" with a CUDA GPU, else "reader".

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    gpu = pick_device().type == "cuda"
    default = "paper" if gpu else "reader"
    name = os.environ.get("TVAE_PROFILE") or default
    check_known("profile (TVAE_PROFILE)", name, PROFILES)
    if name == "paper" and not gpu:
        return PAPER_ON_CPU
    return PROFILES[name]


@checked
def load_data(profile: Profile | None = None) -> tuple[Images, Images]:
    """Training and test images of a profile, on the device of `pick_device`; prints a summary.

    A profile with a smaller test set takes evenly spaced images: see `spread`. The profile
    "validation" tests on held-out training images.
    """
    profile = profile or current_profile()
    device = pick_device()
    train, test = (
        data.load(profile.dataset, split, fallback="mini").to(device) for split in data.SPLITS
    )
    if profile.held_out:
        train, test = hold_out(train, profile.held_out)
    train, test = train[: profile.n_train], spread(test, profile.n_test)
    print(
        f"profile {profile.name}: {len(train):,} training and {len(test):,} test images "
        f"of {train.name} on {Machine.here(device, _workers())}"
    )
    return train, test


@checked
def spread(images: Images, n: int) -> Images:
    """n images, evenly spaced because the two halves of MNIST's test set differ."""
    return images[_evenly(len(images), min(n, len(images)))]


@checked
def hold_out(images: Images, n: int) -> tuple[Images, Images]:
    """Split images into those to train on and n evenly spaced ones, at most half, to test on."""
    held = torch.zeros(len(images), dtype=torch.bool)
    held[_evenly(len(images), min(n, len(images) // 2))] = True
    return images[~held], images[held]


def _evenly(total: int, n: int) -> Tensor:
    """n of `total` rows."""
    return torch.arange(n) * total // n


@checked
def run(
    name: str,
    train: Images,
    test: Images,
    seed: int = 0,
    profile: Profile | None = None,
    pretrained: bool = False,
) -> Run:
    """Train and evaluate one of `RUNS`, or load it if that has been done.

    With `pretrained` nothing is trained: the book's own model and record are loaded.

    A killed run resumes after its last epoch. Results are stored in the folder named by
    `TVAE_RUNS`, keyed by configuration, training images and seed; measuring a run on other test
    images does not train it again.

    Raises:
        ValueError: an unknown run (the known ones are listed), images that do not fit the current
            profile (if none is given), or damaged files in the runs folder.
    """
    if pretrained:
        print(f"{name}: the book's weights")
        book = load_pretrained(name)
        print(_summary(book.record))
        return book
    (one,) = run_seeds(name, train, test, [seed], profile)
    return one


@checked
def run_seeds(
    name: str,
    train: Images,
    test: Images,
    seeds: Sequence[int],
    profile: Profile | None = None,
    side_by_side: bool | None = None,
) -> list[Run]:
    """`run` for several seeds; by default a GPU trains them side by side, as one stack of models.

    Each model in a stack starts with the same parameters as on its own but sees different batches,
    so its result agrees with a separate run within the variation between seeds.

    Raises:
        ValueError: as `run`.
    """
    check_known("run", name, RUNS)
    profile = profile or _profile_of(train)
    if side_by_side is None:
        side_by_side = train.pixels.is_cuda
    job = Job(name, RUNS[name], profile, train)
    folders = {seed: job.folder(seed) for seed in seeds}
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders.values()):  # sorted, so that two calls cannot deadlock
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / "lock"))
        new = [seed for seed, folder in folders.items() if not (folder / TRAINING).exists()]
        for group in [new] if side_by_side and new else [[seed] for seed in new]:
            job.train(group)
        return [job.evaluate(seed, test, fresh=seed in new) for seed in seeds]


def _profile_of(train: Images) -> Profile:
    """The current profile, after checking that it fits the images, since records name it."""
    profile = current_profile()
    if train.name == profile.dataset and len(train) != profile.n_train:
        raise ValueError(
            f"{len(train):,} training images do not fit the profile {profile.name!r}, which trains "
            f"on {profile.n_train:,}; pass the one they were loaded with as run(..., profile=...)"
        )
    return profile


def train_models(
    config: Config,
    images: Images,
    epochs: int,
    seeds: Sequence[int],
    checkpoint: Path | None = None,
    fast: bool = False,
) -> list[tuple[VAE, training.History]]:
    """Train one model per seed, as a stack if there are several; return models and histories."""
    stacked = len(seeds) > 1
    with seeded(seeds[0]):
        alone = [untrained(config, images, seed) for seed in seeds]
        model = stacking.stack(alone) if stacked else alone[0]
        history = training.fit(
            model,
            batches(config, images, len(seeds) if stacked else None),
            config.gradient,
            k=config.k,
            epochs=epochs,
            optimizer=config.make_optimizer,
            warm_up=config.warm_up or 0,
            checkpoint=checkpoint,
            accelerate=accelerated_step if fast else None,
        )
    if not stacked:
        return [(model, history)]
    return list(zip(stacking.unstack(model), stacking.unstack_history(history), strict=True))


def untrained(config: Config, images: Images, seed: int) -> VAE:
    """The model before training. Seeds torch's generators, also for the caller."""
    torch.manual_seed(seed)
    model = build(config.settings() | {"size": images.size})
    if config.start == "mean":
        models.start_at_mean(model, images.x.mean(0).cpu())
    return model.to(images.pixels.device)


def batches(config: Config, images: Images, stack: int | None = None) -> data.Batches:
    """The training batches of a run, for one model or a stack of models."""
    return data.Batches(images, config.batch_size, config.binarization, stack)


def as_seen(config: Config, test: Images) -> Images:
    """The test images for a run: fixed binary ones if it was trained on binary pixels."""
    return test if config.binarization == "none" else data.binarize_fixed(test)


@checked
def evaluate_model(model: VAE, test: Images, nll_samples: int) -> dict[str, Any]:
    """The fields of a record that are measured on test images."""
    terms = evaluation.elbo_terms(model, test)
    use = evaluation.units(model, test)
    ks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if k < nll_samples]
    device = test.pixels.device
    # Compiling takes seconds; evaluating on a set this large takes minutes.
    large = len(test) * nll_samples > 5_000_000 and device.type == "cpu"
    rows = rows_at_once(device)
    result = evaluation.nll(model, test, nll_samples, ks, rows, Compiled if large else None)
    return {
        "recon": evaluation.mean_se(terms.recon),
        "kl_z": evaluation.mean_se(terms.kl_z),
        "kl_u": evaluation.mean_se(terms.kl_u),
        "nll": evaluation.mean_se(result.nll),
        "nll_mc_se": result.se.square().sum().sqrt().item() / len(test),
        "nll_ks": list(result.ks),
        "nll_at": result.nll_at.double().mean(-1).tolist(),
        "ess_median": result.ess.median().item(),
        "nll_per_image": [round(value, 3) for value in result.nll.tolist()],
        "recon_per_image": [round(value, 3) for value in terms.recon.tolist()],
        "kl_per_latent": [round(value, 4) for value in use.kl.tolist()],
        "variance_per_latent": [round(value, 5) for value in use.variance.tolist()],
    }


def fingerprint(config: Config) -> str:
    """How training and evaluation of such a run behave, as 16 hexadecimal digits.

    It is computed from one epoch (times `stretch`) on 130 bundled digits, which make two batches of
    either size, the evaluation on three more digits, and the learning rates of a longer run: see
    `tvae_core.experiments.fingerprint`. Longer training would amplify rounding errors, which differ
    between processors.
    """
    with in_double_precision():
        images = digits(130)
        epochs = config.epochs({config.k: 1})
        ((model, history),) = train_models(config, images, epochs, [0])
        measured = evaluate_model(model, as_seen(config, digits(3, "test")), nll_samples=8)
    curves = [{n: row[n] for n in ("bound", "recon", "kl_z", "kl_u")} for row in history]
    opt, schedule = config.make_optimizer(model, 10, 10)
    rates = []
    for _ in range(100):
        rates.append(f"{float(schedule.get_last_lr()[0]):.5g}")
        opt.step()
        schedule.step()
    return digest([curves, rates, measured])


TRAINING = "training.json"  # written last, so it marks a run as trained


@dataclasses.dataclass(frozen=True)
class Job:
    """One of `RUNS` on given training images; its seeds differ only in their random numbers.

    `trained_on` describes the images, which is computed once here: hashing MNIST takes a while.
    """

    name: str
    config: Config
    profile: Profile
    images: Images
    trained_on: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trained_on.update(self.trained_on or describe(self.images))

    @property
    def settings(self) -> dict[str, Any]:
        epochs = self.config.epochs(self.profile.epochs)
        # A list, as in JSON, so that a stored record equals a new one.
        return {**self.config.settings(), "size": list(self.images.size), "epochs": epochs}

    def folder(self, seed: int) -> Path:
        key = _hash(self.settings, self.trained_on, seed)
        return runs_folder() / f"{self.name}-{self.profile.name}-seed{seed}-{key}"

    def record_name(self, tested_on: dict[str, Any]) -> str:
        """The name of the record's file in its folder, for test images as the run sees them."""
        return f"record-{_hash(tested_on, self.profile.nll_samples)}.json"

    def train(self, seeds: Sequence[int]) -> None:
        """Train one model per seed, side by side if there are several, and store the weights."""
        epochs = self.settings["epochs"]
        machine = Machine.here(self.images.pixels.device, _workers(), len(seeds))
        print(f"{self.name}: {epochs} epochs on {machine}", flush=True)
        # Accelerating the step takes seconds; training for this long takes minutes.
        fast = self.profile.n_train * epochs > 700_000
        behaviour = fingerprint(self.config)
        # Named after how the code behaves, because code that was changed must not go on with it.
        name = f"checkpoint-{'-'.join(map(str, seeds))}-{behaviour[:8]}.pt"
        checkpoint = self.folder(seeds[0]) / name
        with fast_arithmetic():
            trained = train_models(self.config, self.images, epochs, seeds, checkpoint, fast)
        for seed, (model, _) in zip(seeds, trained, strict=True):
            path = self.folder(seed) / "weights.safetensors"
            write_atomically(path, safetensors.torch.save(model.state_dict()))
        for seed, (_, curves) in zip(seeds, trained, strict=True):
            kept = {
                "name": self.name,
                "seed": seed,
                "profile": self.profile.name,
                "config": self.settings,
                "data": {"train": self.trained_on},
                "fingerprint": behaviour,
                "versions": versions(),
                "machine": dataclasses.asdict(machine),
                "seconds": {"train": sum(row["seconds"] for row in curves) / len(seeds)},
                "curves": curves,
            }
            write_atomically(self.folder(seed) / TRAINING, json.dumps(kept, indent=1).encode())
        checkpoint.unlink(missing_ok=True)

    def evaluate(self, seed: int, test: Images, fresh: bool) -> Run:
        """A trained model and its record on these test images, measured if there is none yet."""
        folder, samples = self.folder(seed), self.profile.nll_samples
        seen = as_seen(self.config, test)
        tested_on = describe(seen)
        path = folder / self.record_name(tested_on)
        if path.exists():
            record = load_record(path)
            model = load_weights(folder / "weights.safetensors", record.config)
        else:
            kept = _load_training(folder / TRAINING)
            model = load_weights(folder / "weights.safetensors", kept["config"])
            model = model.to(test.pixels.device)
            start = time.perf_counter()
            with seeded(seed), fast_arithmetic():
                measured = evaluate_model(model, seen, samples)
            seconds = {**kept["seconds"], "evaluate": time.perf_counter() - start}
            config = {**kept["config"], "nll_samples": samples}
            images = {**kept["data"], "test": tested_on}
            kept |= {"seconds": seconds, "config": config, "data": images}
            record = RunRecord.of({**kept, **measured})
            record.save(path)
        if not fresh:
            print(f"{self.name}: loaded from {folder.name}")
            every = training.print_every(len(record.curves))
            for row in record.curves[every - 1 :: every]:
                print(training.describe(row))
        print(_summary(record))
        return Run(model.to(self.images.pixels.device).eval(), record)


def _load_training(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_bytes())
        return {**kept, "seconds": {**kept["seconds"]}}
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is not complete ({error!r}); delete the folder {path.parent} and run again"
        ) from error


def describe(images: Images) -> dict[str, Any]:
    """How records identify a set of images."""
    return {"name": images.name, "n": len(images), "sha256": images.sha256()}


def _workers() -> int:
    """How many of torchrun's workers share a device with this one."""
    devices = torch.cuda.device_count() or math.inf  # on a CPU, each process has its own threads
    return max(1, int(int(os.environ.get("LOCAL_WORLD_SIZE", 1)) // devices))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _summary(record: RunRecord) -> str:
    return (
        f"{record.name}: recon {record.recon.mean:.2f} +- {record.recon.se:.2f}, "
        f"NLL({record.nll_ks[-1]}) {record.nll.mean:.2f} +- {record.nll.se:.2f}, "
        f"trained in {record.seconds['train']:.0f} s on {record.machine}"
    )


def runs_folder() -> Path:
    """`TVAE_RUNS` if it is set, else the subfolder "runs" of the data folder."""
    return Path(os.environ.get("TVAE_RUNS") or data.data_folder() / "runs").expanduser()
