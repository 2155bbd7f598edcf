"""Measure trained models in more detail than their run records: `python -m tvae_core.measure`.

Each kind of measurement of each model has one record, FOLDER/KIND-MODEL.json, which grows part by
part; a command that was stopped resumes after the last complete part. A record made with other
options is never extended or overwritten: the book's are in the default folder, so give one of your
own. The images are MNIST's. If the package does not contain a run's weights, they are taken from
`TVAE_RUNS`, or trained with the profile in `TVAE_PROFILE`; the book's records used "paper".

    python -m tvae_core.measure nll --models plain-iwae5 tps-iwae5 --images 1000 --folder mine
    python -m tvae_core.measure ais --models affine-iwae5 --distributions 500 --folder mine
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvae_core import ais, data, evaluation, models
from tvae_core.data import Images
from tvae_core.experiments import runner
from tvae_core.experiments.acceleration import fast_arithmetic
from tvae_core.experiments.fingerprint import digest, digits, in_double_precision
from tvae_core.experiments.kinds import KINDS, Options, image_blocks, one_part
from tvae_core.experiments.records import Machine, versions
from tvae_core.experiments.results import (
    MEASURED,
    Run,
    build,
    load_pretrained,
    recorded,
    shipped,
)
from tvae_core.models import VAE
from tvae_core.runtime import pick_device, seeded, write_atomically

# The case for which the fingerprint of each kind is computed.
TINY = Options(
    images=2,
    block=1,
    draws=20,
    distributions=3,
    chains=2,
    leapfrog=2,
    repeats=3,
    steps=2,
    rows=30,
)


def fingerprint(kind: str) -> str:
    """How this kind of measurement behaves, as 16 hexadecimal digits.

    It measures the centres of two bundled digits on a small untrained affine model: see
    `tvae_core.experiments.fingerprint`. On whole digits HMC would be chaotic and amplify rounding
    errors. For the SNR, only the cases with up to 8 draws are included.
    """
    how = KINDS[kind]
    with in_double_precision():
        seen = images = data.from_tensor(digits(TINY.images, "test").x[..., 11:17, 11:17])
        model = models.build("affine", images.size, dim_z=3, dim_u=2, hidden=(8,))
        if not how.binarizes:
            seen = data.binarize_fixed(images)
        parts = [p for p in how.parts(TINY) if isinstance(p, slice) or p[1] <= 8]
        return digest([how.measure(model, seen, part, TINY) for part in parts])


def trained(name: str) -> Run:
    """The shipped run; if its weights are not shipped, seed 0 with the current profile.

    The latter is trained now, unless it is in `TVAE_RUNS`.
    """
    if name in shipped():
        return load_pretrained(name)
    return runner.run(name, *runner.load_data())


def measured_model(kind: str, run: Run) -> VAE:
    """The model that a kind measures: the trained one, or the one before training."""
    if not KINDS[kind].untrained:
        return run.model
    with seeded(0):
        return build(run.record.config).to(pick_device())


def measure(kind: str, name: str, images: Images, options: Options, folder: Path) -> dict[str, Any]:
    """Measure the missing parts of one record, and return it.

    Each part is seeded by its index, so that a record does not depend on where it was interrupted.

    Raises:
        ValueError: the folder has a record of this name that is damaged, or that was made with
            other options, images or weights, or by code that behaves differently.
    """
    how, path = KINDS[kind], folder / f"{kind}-{name}.json"
    run = trained(name)
    model = measured_model(kind, run)
    seen = data.binarize_fixed(images) if run.record.binary and not how.binarizes else images
    fixed = {
        "kind": kind,
        "model": name,
        "options": {key: getattr(options, key) for key in how.options},
        "data": runner.describe(seen),
        "weights": _weights_hash(model),
        "fingerprint": fingerprint(kind),
    }
    record: dict[str, Any] = {
        **fixed,
        "versions": versions(),
        "machine": dataclasses.asdict(Machine.here(seen.pixels.device)),
        "seconds": 0.0,
        "parts": [],
    }
    if path.exists():
        record = _resumed(path, fixed)
    parts = how.parts(dataclasses.replace(options, images=len(images)))
    for index in range(len(record["parts"]), len(parts)):
        start = time.perf_counter()
        with seeded(index):
            record["parts"].append(how.measure(model, seen, parts[index], options))
        record["seconds"] += time.perf_counter() - start
        write_atomically(path, _json(record).encode())
        left = record["seconds"] / (index + 1) * (len(parts) - index - 1)
        print(f"{path.stem}: {index + 1} of {len(parts)} parts, {left / 60:.0f} min left")
    return record


def _json(record: dict[str, Any]) -> str:
    """JSON with one line per field, and one per part."""
    lines = [
        f'"{name}": {json.dumps(value, allow_nan=False)}'
        for name, value in record.items()
        if name != "parts"
    ]
    parts = ",\n".join(json.dumps(part, allow_nan=False) for part in record["parts"])
    return "{\n" + ",\n".join([*lines, f'"parts": [\n{parts}\n]']) + "\n}\n"


def _resumed(path: Path, fixed: dict[str, Any]) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        differs = [name for name, value in fixed.items() if record[name] != value]
        if not isinstance(record["parts"], list) or not isinstance(record["seconds"], float):
            raise TypeError("no parts")
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a complete record ({error!r}); delete it") from error
    if differs:
        raise ValueError(
            f"{path} was measured with other {', '.join(differs)}; delete it, or choose another "
            "--folder"
        )
    return record


def _weights_hash(model: VAE) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def columns(record: dict[str, Any]) -> dict[str, Tensor]:
    """The fields of a record's parts, joined along the images (the last axis); None becomes NaN.

    Raises:
        ValueError: the kind is not measured in blocks of images, so there is nothing to join.
    """
    kinds = [name for name, kind in KINDS.items() if kind.parts is image_blocks]
    if record["kind"] not in kinds:
        raise ValueError(
            f"a record of {record['kind']!r} has no values per image (those of "
            f'{", ".join(kinds)} have); read record["parts"]'
        )

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(filled, value))
        return math.nan if value is None else value

    def tensor(values: list[Any]) -> Tensor:
        return torch.tensor(filled(values), dtype=torch.float64)

    first, *_ = record["parts"]
    return {n: torch.cat([tensor(part[n]) for part in record["parts"]], -1) for n in first}


@fast_arithmetic()
def main(arguments: Sequence[str] | None = None) -> None:
    """Make one kind of measurement of the chosen models."""
    chosen = _parse(arguments)
    given = {name: value for name, value in vars(chosen).items() if name in (*NUMBERS, "start")}
    options = Options(**{**KINDS[chosen.kind].defaults, **given})
    try:
        split = data.load("mnist", KINDS[chosen.kind].split).to(pick_device())
        images = runner.spread(split, options.images)
        for name in chosen.models or KINDS[chosen.kind].models:
            record = measure(chosen.kind, name, images, options, chosen.folder)
            print(summary(record))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def summary(record: dict[str, Any]) -> str:
    """The results in a few lines."""
    head = f"{record['kind']}, {record['model']}, {record['data']['n']} images"
    head += f", {record['seconds'] / record['data']['n']:.2f} s an image"
    parts = KINDS[record["kind"]].parts
    lines = means if parts is image_blocks else units_summary if parts is one_part else snr_summary
    return "\n".join([head, *lines(record)])


def snr_summary(record: dict[str, Any]) -> list[str]:
    """One line per estimator and k."""
    return [
        f"  {part['estimator']:22} k={part['k']:<3}"
        + "".join(f"  {block} {value['whole']:.3f}" for block, value in part["snr"].items())
        for part in record["parts"]
    ]


def units_summary(record: dict[str, Any]) -> list[str]:
    """The number of active latents."""
    (part,) = record["parts"]
    active = [variance > evaluation.ACTIVE for variance in part["variance"]]
    z, u = active[: part["dim_z"]], active[part["dim_z"] :]
    return [f"  active: {sum(z)} of {len(z)} in z, {sum(u)} of {len(u)} in u"]


def means(record: dict[str, Any]) -> list[str]:
    """One line per column, with its means over images."""
    lines = []
    for name, values in columns(record).items():
        over_images = values.mean(-1).flatten().tolist()
        lines.append(f"  {name:17}" + " ".join(f"{mean:9.3f}" for mean in over_images))
    return lines


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tvae_core.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("kind", choices=KINDS, help="; ".join(map(_describe, KINDS)))
    add(
        "--models",
        nargs="+",
        choices=recorded(),
        metavar="MODEL",
        help="the models to measure (default: those that the book measures in this way)",
    )
    for name, meaning in NUMBERS.items():
        help_ = f"{meaning} (default: {_default(name)})"
        add(f"--{name}", type=count, default=argparse.SUPPRESS, help=help_)
    add(
        "--start",
        choices=ais.STARTS,
        default=Options.start,
        help="where AIS chains start (default: %(default)s)",
    )
    add(
        "--folder",
        type=Path,
        default=MEASURED,
        help="where records are stored (default: %(default)s)",
    )
    return parser.parse_args(arguments)


NUMBERS = {
    "images": "number of images, spread evenly over the split",
    "block": "images per part of the record",
    "draws": "draws from q per image",
    "distributions": "annealing steps of AIS",
    "chains": "AIS chains per image",
    "leapfrog": "leapfrog steps per AIS transition",
    "steps": "steps that fit the second encoder of a mixture",
    "repeats": "gradients whose mean and variance are computed",
    "rows": "latents decoded at once; use more on a GPU",
}


def _default(name: str) -> str:
    """The default of an option, and that of each kind that has another one."""
    usual = getattr(Options, name)
    others = {kind: made.defaults.get(name, usual) for kind, made in KINDS.items()}
    return ", ".join([str(usual), *(f"{n} for {k}" for k, n in others.items() if n != usual)])


def _describe(kind: str) -> str:
    """The kind's name, what it measures, and its default number of images."""
    what = (KINDS[kind].measure.__doc__ or "").partition(".")[0].partition(":")[0]
    return f"{kind}: {what}; {Options(**KINDS[kind].defaults).images} images"


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
