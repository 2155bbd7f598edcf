"""Training and measuring the book's runs: at which size, and where their results are kept.

The one module that puts all others together. `python -m tvae_core.reproduce` calls it for many
runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import safetensors.torch
import torch

from tvae_core import data, evaluation, models, training
from tvae_core.acceleration import fast_arithmetic
from tvae_core.data import Images
from tvae_core.models import VAE
from tvae_core.provenance import code_hash
from tvae_core.recipes import OPTIMIZERS, RUNS, Config
from tvae_core.records import RunRecord, load_record
from tvae_core.results import Run, build, load_pretrained, load_weights
from tvae_core.runtime import (
    check_known,
    device_name,
    pick_device,
    seeded,
    versions,
    write_atomically,
)


@dataclass(frozen=True)
class Profile:
    """How much of everything: the data set, how long to train, how well to evaluate."""

    name: str
    dataset: str
    n_train: int
    epochs: dict[int, int]  # of runs with k draws per image, by k
    n_test: int
    nll_samples: int
    held_out: int = 0  # training images to test on, in place of the test set


PROFILES = {
    "smoke": Profile("smoke", "mini", 1_000, {1: 2, 5: 1, 16: 1, 50: 1}, 50, 100),
    "reader": Profile("reader", "mnist", 60_000, {1: 10, 5: 5, 16: 3, 50: 1}, 200, 5_000),
    "paper": Profile("paper", "mnist", 60_000, {1: 50, 5: 50, 16: 50, 50: 50}, 10_000, 5_000),
    # Where recipes are compared and chosen: the test set stays unseen.
    "validation": Profile(
        "validation", "mnist", 55_000, {1: 15, 5: 15, 16: 15, 50: 15}, 1_000, 1_000, held_out=5_000
    ),
}
# The paper profile without a GPU.
PAPER_ON_CPU = dataclasses.replace(PROFILES["paper"], n_test=2_000)


def current_profile() -> Profile:
    """The profile that `TVAE_PROFILE` names; without it paper where there is a GPU, else reader.

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


def load_data(profile: Profile | None = None) -> tuple[Images, Images]:
    """Training and test images of a profile, on the device that is picked; prints which.

    A test set smaller than the whole takes every n-th image: see `spread`. The profile validation
    tests on training images that it holds out.
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
        f"of {train.name} on {device_name(device)}"
    )
    return train, test


def spread(images: Images, n: int) -> Images:
    """n of the images, evenly spaced: MNIST's test set has an easier half and a harder one."""
    return images[:: max(1, len(images) // n)][:n]


def hold_out(images: Images, n: int) -> tuple[Images, Images]:
    """Images to train on, and n of them, evenly spaced, to test on."""
    step = max(2, len(images) // n)
    held = torch.zeros(len(images), dtype=torch.bool)
    held[::step] = True
    return images[~held], images[held]


def run(
    name: str,
    train: Images,
    test: Images,
    seed: int = 0,
    profile: Profile | None = None,
    pretrained: bool = False,
) -> Run:
    """Train and evaluate one of `RUNS`, or load it where that has been done.

    With `pretrained` nothing is trained: the book's own model and record come back at once.

    A killed run goes on from its last epoch. Results are kept in the folder that `TVAE_RUNS`
    names, keyed by configuration, training images and seed; a run that is measured on other test
    images is not trained again.

    Raises:
        ValueError: an unknown run (the known are listed), or damaged files in the runs folder.
    """
    if pretrained:
        print(f"{name}: the book's weights")
        book = load_pretrained(name)
        print(_summary(book.record))
        return book
    (one,) = run_seeds(name, train, test, [seed], profile)
    return one


def run_seeds(
    name: str,
    train: Images,
    test: Images,
    seeds: Sequence[int],
    profile: Profile | None = None,
    side_by_side: bool | None = None,
) -> list[Run]:
    """`run` for several seeds; by default a GPU trains them side by side, as one stack of models.

    Their first parameters are those of runs alone, and their batches another sequence's, so that
    results agree within the spread of seeds.

    Raises:
        ValueError: as `run`.
    """
    check_known("run", name, RUNS)
    profile = profile or current_profile()
    if side_by_side is None:
        side_by_side = train.pixels.is_cuda
    job = Job(name, RUNS[name], profile, train)
    folders = {seed: job.folder(seed) for seed in seeds}
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders.values()):  # in one order, so that no two wait for each other
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(folder / "lock"))
        new = [seed for seed, folder in folders.items() if not (folder / TRAINING).exists()]
        for group in [new] if side_by_side and new else [[seed] for seed in new]:
            job.train(group)
        return [job.evaluate(seed, test, fresh=seed in new) for seed in seeds]


def code_of(config: Config, stacked: bool = False) -> str:
    """Hash of the code that trains such a run, alone or in a stack."""
    parts: list[Callable[..., Any]]
    parts = [models.build, models.start_at_mean, data.Batches, training.fit]
    parts += [models.stack, models.unstack] if stacked else []
    return code_hash(*parts, OPTIMIZERS[config.optimizer], config.gradient)


TRAINING = "training.json"  # written last, so it marks a run as trained


class Job(NamedTuple):
    """One of `RUNS` on given training images; its seeds share all but the random numbers."""

    name: str
    config: Config
    profile: Profile
    images: Images

    @property
    def settings(self) -> dict[str, Any]:
        epochs = self.config.epochs(self.profile.epochs)
        # A list, as JSON has it, so that a kept record equals a fresh one.
        return {**self.config.settings(), "size": list(self.images.size), "epochs": epochs}

    def folder(self, seed: int) -> Path:
        key = _hash(self.settings, describe(self.images), seed)
        return runs_folder() / f"{self.name}-{self.profile.name}-seed{seed}-{key}"

    def batches(self, stack: int | None = None) -> data.Batches:
        """An epoch's batches, for one model or for a stack of models."""
        config = self.config
        return data.Batches(self.images, config.batch_size, config.binarization, stack)

    def record_path(self, seed: int, test: Images) -> Path:
        """Where the record of this run on these test images is, or will be."""
        key = _hash(describe(self._seen(test)), self.profile.nll_samples)
        return self.folder(seed) / f"record-{key}.json"

    def _seen(self, test: Images) -> Images:
        """The test images as this run sees them."""
        return test if self.config.binarization == "none" else _binarized(test)

    def train(self, seeds: Sequence[int]) -> None:
        """Train a model for each seed, side by side if there are several; keep the weights."""
        config, device = self.config, self.images.pixels.device
        machine = device_name(device) + (f", {len(seeds)} side by side" if len(seeds) > 1 else "")
        print(f"{self.name}: {self.settings['epochs']} epochs on {machine}", flush=True)
        checkpoint = self.folder(seeds[0]) / f"checkpoint-{'-'.join(map(str, seeds))}.pt"
        stacked = len(seeds) > 1
        code = code_of(config, stacked)  # now, as files may be edited while the run is under way
        with seeded(seeds[0]), fast_arithmetic():
            alone = [self.untrained(seed) for seed in seeds]
            model = models.stack(alone) if stacked else alone[0]
            history = training.fit(
                model,
                self.batches(stack=len(seeds) if stacked else None),
                config.gradient,
                k=config.k,
                epochs=self.settings["epochs"],
                optimizer=config.recipe,
                warm_up=config.warm_up or 0,
                checkpoint=checkpoint,
                fast=self.profile.n_train * self.settings["epochs"] > 700_000,
            )
        histories = training.unstack_history(history) if stacked else [history]
        alone = models.unstack(model) if stacked else [model]
        for seed, one, curves in zip(seeds, alone, histories, strict=True):
            kept = {
                "name": self.name,
                "seed": seed,
                "profile": self.profile.name,
                "config": self.settings,
                "data": {"train": describe(self.images)},
                "code_hash": code,
                "versions": versions(),
                "device": machine,
                "seconds": {"train": sum(row["seconds"] for row in curves) / len(seeds)},
                "curves": curves,
            }
            folder = self.folder(seed)
            write_atomically(
                folder / "weights.safetensors", safetensors.torch.save(one.state_dict())
            )
            write_atomically(folder / TRAINING, json.dumps(kept, indent=1).encode())
        checkpoint.unlink(missing_ok=True)

    def untrained(self, seed: int) -> VAE:
        """The model as training finds it; seeds torch's generators."""
        torch.manual_seed(seed)
        model = build(self.settings)
        if self.config.start == "mean":
            models.start_at_mean(model, self.images.x.mean(0).cpu())
        return model.to(self.images.pixels.device)

    def evaluate(self, seed: int, test: Images, fresh: bool) -> Run:
        """A trained model and its record on these test images, measured unless that is done."""
        folder, samples = self.folder(seed), self.profile.nll_samples
        path = self.record_path(seed, test)
        if path.exists():
            record = load_record(path)
            model = load_weights(folder / "weights.safetensors", record.config)
        else:
            kept, seen = _load_training(folder / TRAINING), self._seen(test)
            model = load_weights(folder / "weights.safetensors", kept["config"])
            model = model.to(test.pixels.device)
            start = time.perf_counter()
            with seeded(seed), fast_arithmetic():
                measured = _measure(model, seen, samples)
            seconds = {**kept["seconds"], "evaluate": time.perf_counter() - start}
            config = {**kept["config"], "nll_samples": samples}
            images = {**kept["data"], "test": describe(seen)}
            kept |= {"seconds": seconds, "config": config, "data": images}
            record = RunRecord(**kept, **measured)
            record.save(path)
        if not fresh:
            print(f"{self.name}: loaded from {folder.name}")
            every = training.block(len(record.curves))
            for row in record.curves[every - 1 :: every]:
                print(training.describe(row))
        print(_summary(record))
        return Run(model.to(self.images.pixels.device).eval(), record)


def _load_training(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text())
        return {**kept, "seconds": {**kept["seconds"]}}
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is not whole ({error!r}); delete the folder {path.parent} and run again"
        ) from error


# Both by identity: a run asks for them several times, and 60,000 images take a moment.
@functools.lru_cache(maxsize=4)
def _binarized(images: Images) -> Images:
    return data.binarize_fixed(images)


@functools.lru_cache(maxsize=8)
def describe(images: Images) -> dict[str, Any]:
    """How records name a set of images."""
    return {"name": images.name, "n": len(images), "sha256": images.sha256()}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _measure(model: VAE, test: Images, nll_samples: int) -> dict[str, Any]:
    """The measured fields of a record."""
    terms = evaluation.elbo_terms(model, test)
    use = evaluation.units(model, test)
    ks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if k < nll_samples]
    rows = evaluation.rows_at_once(test.pixels.device)
    fast = len(test) * nll_samples > 5_000_000
    result = evaluation.nll(model, test, nll_samples, ks, rows, fast)
    return {
        "recon": list(evaluation.mean_se(terms.recon)),
        "kl_z": list(evaluation.mean_se(terms.kl_z)),
        "kl_u": list(evaluation.mean_se(terms.kl_u)),
        "nll": list(evaluation.mean_se(result.nll)),
        "nll_mc_se": result.se.square().sum().sqrt().item() / len(test),
        "nll_ks": list(result.ks),
        "nll_at": result.nll_at.double().mean(-1).tolist(),
        "ess_median": result.ess.median().item(),
        "nll_per_image": [round(value, 3) for value in result.nll.tolist()],
        "recon_per_image": [round(value, 3) for value in terms.recon.tolist()],
        "kl_per_latent": [round(value, 4) for value in use.kl.tolist()],
        "variance_per_latent": [round(value, 5) for value in use.variance.tolist()],
    }


def _summary(record: RunRecord) -> str:
    return (
        f"{record.name}: recon {record.recon[0]:.2f} +- {record.recon[1]:.2f}, "
        f"NLL({record.nll_ks[-1]}) {record.nll[0]:.2f} +- {record.nll[1]:.2f}, "
        f"trained in {record.seconds['train']:.0f} s on {record.device}"
    )


def runs_folder() -> Path:
    """`TVAE_RUNS`, or a folder beside the images."""
    return Path(os.environ.get("TVAE_RUNS") or data.data_folder() / "runs").expanduser()
