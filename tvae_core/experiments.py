"""The book's runs: what each trains, at which size, and where its results are kept.

The one module that puts all others together. From a shell,
`python -m tvae_core.experiments plain-vae affine-vae --seed 0` trains and evaluates runs.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import safetensors
import safetensors.torch
import torch

from tvae_core import bounds, data, evaluation, models, study, training
from tvae_core.data import Images
from tvae_core.estimators import Estimator, analytic_kl, reparameterized
from tvae_core.models import VAE
from tvae_core.records import RunRecord, load_record
from tvae_core.runtime import check_known, device_name, pick_device, seeded, write_atomically

ESTIMATORS: dict[str, Estimator] = {
    "vae": analytic_kl,
    "multi": reparameterized(bounds.elbo),
    "iwae": reparameterized(bounds.iwae),
}


@dataclass(frozen=True)
class Config:
    """One model and how it is trained: the study's recipe unless said otherwise."""

    model: str
    objective: str
    k: int = 1
    binarization: str = "none"
    batch_size: int = 128
    optimizer: str = "adadelta"


def _study_runs() -> dict[str, Config]:
    """The study's nine models, and the plain ones that chapter 6 compares them with.

    "vae" has its KL in closed form; "multi" and "iwae" estimate it from their draws, as the study
    did.
    """
    runs = {f"{model}-vae": Config(model, "vae") for model in ("plain", "affine", "tps")}
    runs["plain-vae-binarized"] = Config("plain", "vae", binarization="dynamic", batch_size=100)
    runs["plain-multi1"] = Config("plain", "multi", 1, "dynamic", 100)
    for model, k in (("plain", 5), ("affine", 5), ("tps", 5), ("plain", 50)):
        for objective in ("multi", "iwae"):
            runs[f"{model}-{objective}{k}"] = Config(model, objective, k, "dynamic", 100)
    return runs


RUNS = _study_runs()


@dataclass(frozen=True)
class Profile:
    """How much of everything: the data set, how long to train, how well to evaluate."""

    name: str
    dataset: str
    n_train: int
    epochs: dict[int, int]  # of runs with k draws per image, by k
    n_test: int
    nll_samples: int


PROFILES = {
    "smoke": Profile("smoke", "mini", 1_000, {1: 2, 5: 1, 50: 1}, 50, 100),
    "reader": Profile("reader", "mnist", 60_000, {1: 10, 5: 5, 50: 1}, 200, 5_000),
    "paper": Profile("paper", "mnist", 60_000, {1: 50, 5: 50, 50: 50}, 10_000, 5_000),
}
# The paper profile without a GPU: an epoch at k = 50 takes a core a minute and a half.
PAPER_ON_CPU = dataclasses.replace(PROFILES["paper"], epochs={1: 50, 5: 50, 50: 12}, n_test=2_000)


def current_profile() -> Profile:
    """The profile that `TVAE_PROFILE` names; without it paper where there is a GPU, else reader.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    default = "paper" if torch.cuda.is_available() else "reader"
    name = os.environ.get("TVAE_PROFILE") or default
    check_known("profile (TVAE_PROFILE)", name, PROFILES)
    if name == "paper" and not torch.cuda.is_available():
        return PAPER_ON_CPU
    return PROFILES[name]


def load_data(profile: Profile | None = None) -> tuple[Images, Images]:
    """Training and test images of a profile, on the device that is picked; prints which.

    A test set smaller than the whole takes every n-th image, so that it has its share of MNIST's
    easier first half and its harder second half.
    """
    profile = profile or current_profile()
    device = pick_device()
    train, test = (
        data.load(profile.dataset, split, fallback="mini").to(device) for split in data.SPLITS
    )
    train = train[: profile.n_train]
    test = test[:: max(1, len(test) // profile.n_test)][: profile.n_test]
    print(
        f"profile {profile.name}: {len(train):,} training and {len(test):,} test images "
        f"of {train.name} on {device_name(device)}"
    )
    return train, test


class Run(NamedTuple):
    """A trained model and its record."""

    model: VAE
    record: RunRecord


def run(
    name: str, train: Images, test: Images, seed: int = 0, profile: Profile | None = None
) -> Run:
    """Train and evaluate one of `RUNS`, or load it where that has been done.

    A killed run goes on from its last epoch. Results are kept in the folder that `TVAE_RUNS`
    names, keyed by configuration, data and seed.

    Raises:
        ValueError: an unknown run (the known are listed), or damaged files in the runs folder.
    """
    check_known("run", name, RUNS)
    config, profile = RUNS[name], profile or current_profile()
    epochs = profile.epochs[config.k]
    settings = {
        **dataclasses.asdict(config),
        "size": list(train.size),  # as JSON has it, so that a kept record equals a fresh one
        "epochs": epochs,
        "nll_samples": profile.nll_samples,
    }
    if config.binarization != "none":
        test = data.binarize_fixed(test)
    hashes = {
        split: {"name": images.name, "n": len(images), "sha256": images.sha256()}
        for split, images in (("train", train), ("test", test))
    }
    key = hashlib.sha256(json.dumps([settings, hashes, seed]).encode()).hexdigest()[:8]
    folder = runs_folder() / f"{name}-{profile.name}-seed{seed}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    device = train.pixels.device

    with filelock.FileLock(folder / "lock"):
        if (folder / "record.json").exists():
            record = load_record(folder / "record.json")
            model = _reload(folder / "weights.safetensors", record).to(device)
            print(f"{name}: loaded from {folder.name}")
            for row in record.curves[training.block(epochs) - 1 :: training.block(epochs)]:
                print(training.describe(row))
            print(_summary(record))
            return Run(model, record)

        print(f"{name}: {epochs} epochs on {device_name(device)}", flush=True)
        code = code_hash()  # now, as the files may be edited while the run is under way
        with seeded(seed):
            model = models.build(config.model, train.size).to(device)
            history = training.fit(
                model,
                data.Batches(train, config.batch_size, config.binarization),
                ESTIMATORS[config.objective],
                k=config.k,
                epochs=epochs,
                optimizer=config.optimizer,
                checkpoint=folder / "checkpoint.pt",
            )
        start = time.perf_counter()
        with seeded(seed):
            measured = _measure(model, test, profile.nll_samples)
        seconds = {
            "train": sum(row["seconds"] for row in history),
            "evaluate": time.perf_counter() - start,
        }
        record = RunRecord(
            name=name,
            seed=seed,
            profile=profile.name,
            config=settings,
            data=hashes,
            code_hash=code,
            versions={p: metadata.version(p) for p in ("torch", "numpy", "tvae-core")}
            | {"python": platform.python_version()},
            device=device_name(device),
            seconds=seconds,
            curves=history,
            **measured,
        )
        weights = safetensors.torch.save(model.state_dict())
        write_atomically(folder / "weights.safetensors", lambda file: file.write(weights))
        record.save(folder / "record.json")  # last: it marks the run as finished
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        print(_summary(record))
    return Run(model.eval(), record)


def pretrained(name: str) -> Run:
    """The model that the book shows under this name, and its record (seed 0, paper profile).

    The weights are kept in float16: what they give differs from the record in the second decimal
    at the most.

    Raises:
        ValueError: an unknown run (the known are listed).
        OSError: a damaged file.
    """
    check_known("run", name, RUNS)
    folder = Path(str(resources.files("tvae_core"))) / "pretrained"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        expected, file = line.split()
        found = (folder / file).read_bytes() if file.startswith(f"{name}.") else None
        if found is not None and hashlib.sha256(found).hexdigest() != expected:
            raise OSError(f"{folder / file} is damaged; install tvae_core again")
    record = load_record(folder / f"{name}.json")
    return Run(_reload(folder / f"{name}.safetensors", record).to(pick_device()), record)


def record_of(name: str) -> RunRecord:
    """The record behind the book's numbers for one of `RUNS`."""
    return pretrained(name).record


def _measure(model: VAE, test: Images, nll_samples: int) -> dict[str, Any]:
    """The measured fields of a record."""
    terms = evaluation.elbo_terms(model, test)
    ks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if k < nll_samples]
    result = evaluation.nll(model, test, nll_samples, ks)
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
    }


def report(*names: str) -> str:
    """A table of the book's records for some of `RUNS`, with the study's numbers beside them.

    Means over test images +- the standard error over these images; NLL from the record's number
    of importance samples.
    """
    lines = [
        f"{'run':20} {'recon':>14} {'KL(z)':>6} {'KL(u)':>6} {'NLL':>15} {'study: recon, NLL':>19}"
    ]
    for name in names:
        record = record_of(name)
        printed_recon = study.PRINTED[record.config["model"]].recon
        printed_nll = study.nll_of(name)
        printed = "-" if printed_nll is None else f"{printed_nll:.2f}"
        if name.endswith("-vae"):
            printed = f"{printed_recon:.2f}  {printed}"
        lines.append(
            f"{name:20} {record.recon[0]:7.2f} +- {record.recon[1]:.2f} {record.kl_z[0]:6.2f} "
            f"{record.kl_u[0]:6.2f} {record.nll[0]:8.2f} +- {record.nll[1]:.2f} {printed:>19}"
        )
    return "\n".join(lines)


def _summary(record: RunRecord) -> str:
    return (
        f"{record.name}: recon {record.recon[0]:.2f} +- {record.recon[1]:.2f}, "
        f"NLL({record.nll_ks[-1]}) {record.nll[0]:.2f} +- {record.nll[1]:.2f}, "
        f"trained in {record.seconds['train']:.0f} s on {record.device}"
    )


def _reload(weights: Path, record: RunRecord) -> VAE:
    """A recorded run's model.

    Raises:
        ValueError: missing or damaged weights, or weights of another model.
    """
    model = models.build(record.config["model"], tuple(record.config["size"]))
    try:
        state = safetensors.torch.load(weights.read_bytes())
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except (FileNotFoundError, safetensors.SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"the weights {weights} are missing, damaged or another model's; delete the folder "
            f"{weights.parent} and run again"
        ) from error
    return model.eval()


def runs_folder() -> Path:
    """`TVAE_RUNS`, or a folder beside the images."""
    return Path(os.environ.get("TVAE_RUNS") or data.data_folder() / "runs").expanduser()


# What a trained model depends on. Evaluation is left out: it can be repeated on kept weights.
_CODE = ("data", "networks", "warps", "particles", "bounds", "estimators", "models", "training")


def code_hash() -> str:
    """Hash of the code that trains, without its comments and docstrings."""
    digest = hashlib.sha256()
    for module in _CODE:
        tree = ast.parse(resources.files("tvae_core").joinpath(f"{module}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = None  # a docstring
        digest.update(ast.unparse(tree).encode())  # ast.dump differs between Pythons
    return digest.hexdigest()[:16]


def main() -> None:
    """Train and evaluate runs from a shell."""
    parser = argparse.ArgumentParser(
        prog="python -m tvae_core.experiments", description=main.__doc__
    )
    parser.add_argument("names", nargs="+", choices=RUNS, metavar="NAME", help=", ".join(RUNS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train, test = load_data()
    for name in arguments.names:
        run(name, train, test, arguments.seed)


if __name__ == "__main__":
    main()
