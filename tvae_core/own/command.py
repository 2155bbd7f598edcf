"""Align a folder of pictures: `python -m tvae_core.align FOLDER --out OUT`.

Trains a model on the pictures, or takes one with --model, and writes into OUT:

    aligned/            each picture in the mean pose, under its own name, as PNG
    poses.csv           file, class, turn in degrees counter-clockwise, shift in pixels of the
                        prepared picture (right and down), scale, the standard deviation of each
                        (..._sd), NLL in nats, cluster
    report.html         what to look at first: outliers, before and after, means, poses
    mean*.png           the mean picture before and after, and of each cluster
    model.safetensors   the model, to align more pictures of the same kind with --model
    record.json         what was done with which settings, and how training went

If the command was stopped, give the same command again, and it resumes where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tvae_core.data import Images
from tvae_core.experiments.acceleration import fast_arithmetic
from tvae_core.experiments.measure import count
from tvae_core.experiments.records import versions
from tvae_core.models import VAE
from tvae_core.own import aligning, convolutions, folders, pixels, report, shards, training
from tvae_core.own.aligning import Findings
from tvae_core.own.folders import Folder, from_folder
from tvae_core.runtime import pick_device, write_atomically
from tvae_core.training import NonFiniteLossError

SHOWN = 12  # pictures in each part of the report
# The columns that are the same for all images of a warp.
CONSTANT = {
    "translation": ("degrees", "scale", "shear", "reflected", "bend"),
    "rotation": ("shift", "scale", "shear", "reflected", "bend"),
    "similarity": ("scale_y", "shear", "reflected", "bend"),
    "affine": ("bend",),
    "tps": (),
}
MODEL = "model.safetensors"
DEFAULTS = {"fit": "pad", "invert": "auto", "contrast": "stretch"}


# Further options of `training.new_model`, as they are without an option of the command.
DESIGN: dict[str, Any] = {"likelihood": "bernoulli", "noise": None, "body": "mlp"}
DESIGN |= {"turn": None, "shift": None, "scale": None, "fixed": False}
OF_TRAINING = ("colour", "warp", "epochs", "latents", "hidden", "rate", "seed", *DESIGN)


def _design(settings: dict[str, Any]) -> dict[str, Any]:
    """Of the settings of a run, those in `DESIGN`."""
    return {name: settings.get(name, usual) for name, usual in DESIGN.items()}


class Kept(NamedTuple):
    """A model from a file, the images whose mean pose is its zero, and its training settings."""

    model: VAE
    reference: Images
    settings: dict[str, Any]


def save_model(path: Path, kept: Kept) -> None:
    """Write a model, its reference images and its settings as one safetensors file."""
    tensors = {f"model.{name}": value.cpu() for name, value in kept.model.state_dict().items()}
    tensors["reference"] = kept.reference.pixels.cpu().contiguous()
    metadata = {"settings": json.dumps(kept.settings)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_model(path: Path) -> Kept:
    """What `save_model` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no model {path}")
    try:
        with safetensors.safe_open(path, "pt") as file:
            settings = json.loads(file.metadata()["settings"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        pixels = tensors.pop("reference")
        reference = Images(pixels, None, "reference")
        model = training.new_model(
            settings["warp"],
            training.shape_of(reference),
            settings["latents"],
            settings["hidden"],
            **_design(settings),
        )
        model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items()})
    except (safetensors.SafetensorError, TypeError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} was not written by this command, or is damaged ({error}): choose another"
        ) from error
    return Kept(model, reference.to(pick_device()), settings)


@fast_arithmetic()
def main(arguments: Sequence[str] | None = None) -> None:
    """Align a folder of pictures."""
    parser = _parser()
    # None for an option that is not given; argparse leaves what is there.
    chosen = parser.parse_args(arguments, argparse.Namespace(**dict.fromkeys(OF_TRAINING)))
    try:
        with (
            shards.together() as rank,
            contextlib.redirect_stdout(io.StringIO() if rank else sys.stdout),
        ):
            _run(chosen)
    except (ValueError, OSError, NonFiniteLossError) as error:
        parser.exit(1, f"error: {error}\n")


def _run(chosen: argparse.Namespace) -> None:
    out: Path = chosen.out
    if out.resolve().is_relative_to(chosen.folder.resolve()):
        raise ValueError(f"--out {out} lies in the folder of pictures; choose one beside it")
    if chosen.folder.resolve().is_relative_to((out / "aligned").resolve()):
        raise ValueError(f"--out {out} would overwrite the pictures in {chosen.folder}")
    kept = load_model(chosen.model) if chosen.model else None
    if kept is not None:
        _check_options(chosen, kept)
    parser = _parser()
    for name in OF_TRAINING:
        if getattr(chosen, name) is None:
            setattr(chosen, name, parser.get_default(name))
    prepared = _prepared(chosen, kept)
    found = _read(chosen, kept, prepared)
    print(found.summary())
    given = kept.settings if kept else {name: getattr(chosen, name) for name in OF_TRAINING}
    settings = {**given, **prepared, "size": found.images.size, "images": found.images.sha256()}
    _check_folder(out, settings)
    if chosen.dry_run:
        print(_forecast(found, chosen, kept))
        return
    start = time.perf_counter()
    if kept is None:
        kept, record = _trained(found, settings, out)
    else:
        record = {"model": str(chosen.model), "problems": []}
    if shards.place()[0] != 0:
        return  # the first process writes for all
    images = found.images.to(pick_device())
    clusters = chosen.clusters or max(1, len(found.classes))
    findings = aligning.examine(kept.model, images, kept.reference, clusters)
    _write(out, found, kept, findings, record)
    _write_record(out, found, settings, record, time.perf_counter() - start)
    print(f"see {out / 'report.html'}")


def _check_options(chosen: argparse.Namespace, kept: Kept) -> None:
    """Raise a ValueError for an option that would have to change a model that is trained."""
    for name in ("size", *OF_TRAINING):
        given = getattr(chosen, name)
        has = kept.model.size if name == "size" else kept.settings.get(name, DESIGN.get(name))
        if given not in (None, has):
            why = f"be {given}: the model was trained with {has}"
            if has is None or has is False:
                why = "be given: the model was trained without it"
            raise ValueError(f"--{name} cannot {why}")


def _prepared(chosen: argparse.Namespace, kept: Kept | None) -> dict[str, str]:
    """How pictures are prepared: as those of the model were, unless other options are given."""
    usual = DEFAULTS if kept is None else kept.settings
    return {name: getattr(chosen, name) or usual[name] for name in DEFAULTS}


def _read(chosen: argparse.Namespace, kept: Kept | None, prepared: dict[str, str]) -> Folder:
    fit, invert, contrast = prepared.values()
    size = chosen.size if kept is None else kept.model.size
    colour = chosen.colour if kept is None else kept.model.shape[0] == 3
    inverted = {"auto": None, "yes": True, "no": False}[invert]
    return from_folder(chosen.folder, size, fit, inverted, contrast, 3 if colour else 1)


def _forecast(found: Folder, chosen: argparse.Namespace, kept: Kept | None) -> str:
    if kept is not None:
        return "nothing is trained, because --model gives a model; nothing was written"
    epochs = chosen.epochs or training.epochs_for(round(len(found) * (1 - training.HELD_OUT)))
    networks = {"dim_z": chosen.latents, "hidden": chosen.hidden}
    seconds = training.seconds_for(
        found.images, chosen.warp, epochs, **networks, **_design(vars(chosen))
    )
    return (
        f"training for {epochs} epochs would take about {max(1, round(seconds / 60))} min on this "
        "machine; nothing was written"
    )


def _check_folder(out: Path, settings: dict[str, Any]) -> None:
    """Raise a ValueError if a folder holds results of other pictures, which would stay there."""
    path = out / "record.json"
    if not path.exists():
        return
    try:
        images = json.loads(path.read_bytes())["settings"]["images"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record of this command; choose another --out") from error
    if images != settings["images"]:
        raise ValueError(
            f"{out} holds the results of other pictures; choose another --out, or delete it"
        )


def _trained(found: Folder, settings: dict[str, Any], out: Path) -> tuple[Kept, dict[str, Any]]:
    """The model of this folder, trained to the end if need be, and the record of its training."""
    trained = training.train(
        found.images,
        settings["warp"],
        epochs=settings["epochs"],
        dim_z=settings["latents"],
        hidden=settings["hidden"],
        rate=settings["rate"],
        seed=settings["seed"],
        folder=out / "training",
        **_design(settings),
    )
    for problem in trained.problems:
        print(f"warning: {problem}")
    reference = aligning.reference_of(found.images).to(pick_device())
    kept = Kept(trained.model, reference, settings)
    if shards.place()[0] == 0:
        save_model(out / MODEL, kept)
    record = {
        "held_out_elbo": trained.best,
        "problems": [problem._asdict() for problem in trained.problems],
        "history": trained.history,
    }
    return kept, record


def _write(
    out: Path, found: Folder, kept: Kept, findings: Findings, record: dict[str, Any]
) -> None:
    """Aligned images, the table, the means and the report."""
    images = found.images.to(pick_device())
    names = _aligned_names(found.files)
    straight: list[Tensor] = []
    for block in aligning.aligned(kept.model, images, kept.reference):
        for x in block.straightened:
            picture = out / "aligned" / names[len(straight)]
            picture.parent.mkdir(parents=True, exist_ok=True)
            # Not write_atomically, which waits for the disk: this command makes them again.
            picture.write_bytes(report.png(x))
            straight.append((x * 255).round().byte())
    after = torch.stack(straight)
    write_atomically(out / "poses.csv", _table(found, findings, kept.settings).encode())
    means = {"mean before": _mean(found.images.pixels), "mean after": _mean(after)}
    n_clusters = int(findings.cluster.max()) + 1
    for cluster in range(n_clusters if n_clusters > 1 else 0):
        of = after[findings.cluster == cluster]
        means[f"mean of cluster {cluster} ({len(of)} images)"] = _mean(of)
    for old in out.glob("mean_of_cluster_*.png"):  # of an earlier run with more clusters
        old.unlink()
    for name, x in means.items():
        file = "_".join(name.partition(" (")[0].split()) + ".png"
        write_atomically(out / file, report.png(x))
    page = report.page(_report(found, kept, findings, after, means, record))
    write_atomically(out / "report.html", page.encode())


def _mean(pixels: Tensor) -> Tensor:
    """The mean picture in [0, 1]; only a block of them is in memory as floats."""
    blocks = pixels.split(aligning.BLOCK)
    return torch.stack([block.float().sum(0) for block in blocks]).sum(0) / (255 * len(pixels))


def _aligned_names(files: Sequence[str]) -> list[str]:
    """The file of each aligned image: its own name, as PNG; its ending stays if names clash."""
    names = [
        file.replace("[", "_").replace("]", ".png")  # a picture of an array
        if "[" in Path(file).suffix
        else Path(file).with_suffix(".png").as_posix()
        for file in files
    ]
    while clash := {name for name, times in Counter(names).items() if times > 1}:
        pairs = zip(files, names, strict=True)
        names = [f"{file}.png" if name in clash else name for file, name in pairs]
    return names


def _columns(findings: Findings, settings: dict[str, Any]) -> dict[str, Tensor]:
    """The columns of poses.csv that vary with this warp, with the likelihood in the NLL's name."""
    columns, warp = dict(findings.poses.columns), settings["warp"]
    columns[_nll(settings)] = columns.pop("nll")
    columns = {n: values for n, values in columns.items() if not n.startswith(CONSTANT[warp])}
    if warp == "similarity":
        columns = {name.replace("scale_x", "scale"): values for name, values in columns.items()}
    return columns


def _nll(settings: dict[str, Any]) -> str:
    """The name of the NLL's column, so that nobody compares those of two likelihoods."""
    likelihood = _design(settings)["likelihood"]
    return "nll" if likelihood == "bernoulli" else f"nll_{likelihood.replace('-', '_')}"


def _table(found: Folder, findings: Findings, settings: dict[str, Any]) -> str:
    """The contents of poses.csv."""
    columns = _columns(findings, settings)
    labels = found.images.labels
    classes = [found.classes[label] for label in labels.tolist()] if labels is not None else None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", *(["class"] if classes else []), *columns, "cluster"])
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    for i, (row, cluster) in enumerate(zip(rows, findings.cluster.tolist(), strict=True)):
        of_class = [classes[i]] if classes else []
        writer.writerow([found.files[i], *of_class, *(f"{v:.6g}" for v in row), cluster])
    return text.getvalue()


def _report(
    found: Folder,
    kept: Kept,
    findings: Findings,
    after: Tensor,
    means: dict[str, Tensor],
    record: dict[str, Any],
) -> report.Report:
    images = found.images.to(pick_device())
    every = torch.arange(0, len(found), max(1, len(found) // SHOWN))[:SHOWN]
    errors = torch.cat(
        [
            (aligning.rebuilt(kept.model, part) - part.x.cpu()).square().mean((1, 2, 3))
            for part in aligning.blocks(images)
        ]
    )
    worst = errors.argsort(descending=True)[:SHOWN].tolist()
    columns = _columns(findings, kept.settings)

    def rows(indices: list[int]) -> list[report.Row]:
        return [_row(i, found, kept, after, columns) for i in indices]

    return report.Report(
        title=f"{found.images.name}, aligned",
        summary=[
            *found.summary().split("\n"),
            f"likelihood of a pixel: {_design(kept.settings)['likelihood']}; compare the NLL only "
            "with NLLs of the same likelihood",
        ],
        problems=[
            ": ".join([p["name"], f"{p['seen']}. {p['change']}"]) for p in record["problems"]
        ],
        strips={"before": found.images[every].x, "after": after[every] / 255},
        means=means,
        histograms={name: columns[name] for name in _units(columns)},
        outliers=rows(findings.outliers(SHOWN)),
        worst=rows(worst),
    )


def _units(columns: dict[str, Tensor]) -> list[str]:
    return [name.removesuffix("_sd") for name in columns if name.endswith("_sd")]


def _row(
    i: int, found: Folder, kept: Kept, after: Tensor, columns: dict[str, Tensor]
) -> report.Row:
    image = found.images[i : i + 1]
    pictures = {
        "before": image.x[0],
        "after": after[i] / 255,
        "rebuilt": aligning.rebuilt(kept.model, image.to(pick_device()))[0],
    }
    numbers = {
        name: f"{columns[name][i]:.3g} ± {columns[f'{name}_sd'][i]:.2g}" for name in _units(columns)
    }
    nll = _nll(kept.settings)
    return report.Row(found.files[i], pictures, {**numbers, nll: f"{columns[nll][i]:.1f}"})


def _write_record(
    out: Path, found: Folder, settings: dict[str, Any], record: dict[str, Any], seconds: float
) -> None:
    whole = {
        "settings": settings,
        "n": len(found),
        "classes": found.classes,
        "skipped": found.skipped,
        "changed": found.changed,
        **record,
        "seconds": round(seconds, 1),
        "versions": versions(),
    }
    write_atomically(out / "record.json", json.dumps(whole, indent=1, ensure_ascii=False).encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tvae_core.align",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, help="the folder of pictures; subfolders are classes")
    add("--out", type=Path, required=True, help="the folder to write to")
    add("--warp", choices=training.POSED, default="similarity", help="default: %(default)s")
    add("--model", type=Path, help="a model.safetensors to use, instead of training one")
    add("--dry-run", action="store_true", help="say what was found and how long it will take")
    add("--size", type=_size, help="side in pixels, or HEIGHTxWIDTH (default: up to 64)")
    add("--fit", choices=folders.FITS, help=f"default: {DEFAULTS['fit']}")
    add("--invert", choices=("auto", "yes", "no"), help=f"default: {DEFAULTS['invert']}")
    add("--contrast", choices=folders.CONTRASTS, help=f"default: {DEFAULTS['contrast']}")
    add("--colour", action="store_true", help="keep colours (default: gray)")
    add("--clusters", type=count, help="default: one for each class, or 1")
    add("--epochs", type=count, help="default: more for fewer pictures")
    add(
        "--latents",
        type=count,
        default=training.DIM_Z,
        help="number of latents in z (default: %(default)s)",
    )
    add(
        "--hidden",
        type=count,
        default=training.HIDDEN,
        help="width of hidden layers (default: %(default)s)",
    )
    add("--rate", type=float, default=training.PEAK, help="learning rate (default: %(default)s)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add(
        "--likelihood",
        choices=pixels.LIKELIHOODS,
        default=DESIGN["likelihood"],
        help="of a pixel (default: %(default)s)",
    )
    add(
        "--noise",
        type=float,
        help="standard deviation of normal pixels, at least 1/255 (default: learned)",
    )
    add("--body", choices=convolutions.BODIES, default=DESIGN["body"], help="default: %(default)s")
    poses = parser.add_argument_group("what you expect of the poses, as standard deviations")
    poses.add_argument("--turn", type=float, help="in degrees")
    poses.add_argument("--shift", type=float, help="in pixels")
    poses.add_argument("--scale", type=float, help="in per cent")
    poses.add_argument(
        "--fixed", action="store_true", help="keep the three above fixed in training"
    )
    return parser


def _size(text: str) -> tuple[int, int]:
    sides = [count(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"expected a side or HEIGHTxWIDTH, got {text!r}")
    return sides[0], sides[-1]
