"""Laws of the measurements that ship with the package, and edits by hand that break them."""

import copy
import functools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tvae_core import diagnostics, models
from tvae_core.evaluation import NLL_SAMPLES
from tvae_core.experiments import results
from tvae_core.experiments.configs import RUNS
from tvae_core.experiments.kinds import KINDS, Options, image_blocks
from tvae_core.experiments.measure import columns
from tvae_core.gradients import blocks

Record = dict[str, Any]
record_of = functools.cache(results.record_of)
BLOCKWISE = [name for name, kind in KINDS.items() if kind.parts is image_blocks]


def agree(a: Tensor, b: Tensor) -> bool:
    """Equal up to the rounding of what is stored."""
    return torch.allclose(a.double(), b.double(), rtol=0, atol=1e-4)


def within(low: float, values: Tensor, high: float) -> bool:
    return bool(((low <= values) & (values <= high)).all())


def error_of(ess: Tensor, draws: int) -> Tensor:
    """The delta-method error of the log of a mean of weights."""
    return (1 / ess - 1 / draws).clamp(min=0).sqrt()


# Laws of each kind.


def has_all_its_images_and_options(r: Record) -> bool:
    kind, n = KINDS[r["kind"]], r["data"]["n"]
    parts = kind.parts(Options(**{**kind.defaults, **r["options"], "images": n}))
    if not r["parts"]:
        return False
    if r["kind"] in BLOCKWISE:
        shapes = {tuple(values.shape) for values in columns(r).values()}
        complete = all(shape[-1] == n for shape in shapes) and len(shapes) == 1
    else:
        complete = r["kind"] == "units" or parts == [(p["estimator"], p["k"]) for p in r["parts"]]
    gray = kind.binarizes or RUNS[r["model"]].binarization == "none"
    return (
        complete
        and len(r["parts"]) == len(parts)
        and r["options"].keys() == {*kind.options}
        and n == kind.defaults.get("images", Options.images)
        and r["data"]["name"] == ("mnist" if gray else "mnist, binarized with seed 0")
        and r["seconds"] > 0
    )


def ais_is_below_importance_sampling(r: Record) -> bool:
    by, chains = columns(r), r["options"]["chains"]
    return (
        by["ais_nll"].mean() < by["is_nll"].mean()
        and within(0.5, by["ais_acceptance"], 0.8)
        and agree(by["ais_se"], error_of(by["ais_ess"], chains))
        and agree(by["is_se"], error_of(by["is_ess"], NLL_SAMPLES))
        and within(1, by["is_ess"], NLL_SAMPLES)
    )


def ais_begins_at_the_nll_of_the_run(r: Record) -> bool:
    """Another binarization of 100 of the run's 2,000 images: within six standard errors."""
    of_run = torch.tensor(record_of(r["model"]).nll_per_image)[::20].double()
    off = columns(r)["is_nll"] - of_run
    return bool(off.mean().abs() < 6 * off.std() / 10 and off.std() < of_run.std() / 2)


def agrees_with_the_run(nll: Tensor, r: Record) -> bool:
    """On evenly spaced test images, which the run's 2,000 contain."""
    of_run = torch.tensor(record_of(r["model"]).nll_per_image).double()[:: 2_000 // len(nll)]
    off = nll - of_run
    error = off.std() / math.sqrt(len(off))
    # Another binarization, and perhaps another training of the same run.
    return bool(abs(off.mean()) < 6 * error + 0.3 and off.std() < of_run.std() / 2)


def more_draws_lower_the_nll(r: Record) -> bool:
    by = columns(r)
    means = [by[name].mean() for name in ("elbo", "iwae5", "nll")]
    # Seen images are no harder than new ones; these have not been in the run's record.
    there = r["kind"] == "on-test" and agrees_with_the_run(by["nll"], r)
    seen = (
        r["kind"] == "on-train" and 0.8 < by["nll"].mean() / record_of(r["model"]).nll.mean < 1.02
    )
    return means[0] > means[1] + 1 > means[2] + 2 and (there or seen)


def a_mixture_is_a_better_proposal(r: Record) -> bool:
    by = columns(r)
    mean, median = (
        {n: getattr(v, how)().item() for n, v in by.items()} for how in ("mean", "median")
    )
    return (
        0 < mean["own_nll"] - mean["mixed_nll"] < 3
        and median["own_ess"] < median["mixed_ess"]
        and median["own_pareto"] > median["mixed_pareto"]
        and within(1, by["own_ess"], NLL_SAMPLES)
        and within(1, by["mixed_ess"], NLL_SAMPLES)
        and within(-1, by["own_pareto"], 10)
        and agrees_with_the_run(by["own_nll"], r)
    )


def z_and_u_are_coupled(r: Record) -> bool:
    """More than chance would have it; in q, only if its encoder looks at u."""
    by, looks = columns(r), RUNS[r["model"]].look is not None
    posterior, mismatched, q = (by[name].mean() for name in ("posterior", "mismatched", "q"))
    # 3,200 independent draws of z and u; those of a chain are nearly as good.
    latents = 42 * 18 if r["model"].startswith("tps") else 54 * 6
    chance = latents / (2 * 3_200)
    return (
        within(0, torch.stack([*by.values()]), 100)
        and posterior > max(mismatched + 0.5, q)
        and abs(mismatched - chance) < 0.02
        and bool(abs(q - chance) < 0.01 if not looks else q > 0.2)
    )


def the_bounds_enclose_log_p(r: Record) -> bool:
    """A lower bound on log p is an upper one on the NLL. The images are the model's own."""
    by, chains = columns(r), r["options"]["chains"]
    gap = by["lower_nll"] - by["upper_nll"]
    return (
        0 < gap.mean() < 1
        and by["is_nll"].mean() > by["lower_nll"].mean()
        and all(agree(by[f"{b}_se"], error_of(by[f"{b}_ess"], chains)) for b in ("lower", "upper"))
        and all(within(0.5, by[f"{b}_acceptance"], 0.8) for b in ("lower", "upper"))
        and within(0, by["is_se"], 1)
        and within(1, by["reach"], 30)
    )


def more_draws_lower_the_nll_and_raise_the_ess(r: Record) -> bool:
    by, ks = columns(r), torch.tensor(diagnostics.KS, dtype=torch.float64)
    nll, ess, dominated = (by[name].mean(1) for name in ("nll", "ess", "dominated"))
    alone = by["jackknife"].isnan()
    return (
        len(nll) == len(ks)
        and bool(
            (nll.diff() < 0).all() and (ess.diff() > 0).all() and (dominated.diff() <= 0).all()
        )
        and bool((ess <= ks + 1e-9).all())
        and ess[0] == dominated[0] == 1
        and within(0, by["dominated"], 1)
        and bool(alone[0].all() and not alone[1:].any())
        and agree(by["delta"][-1], error_of(by["ess"][-1], int(ks[-1])).square() / 2)
        and within(0, by["delta"], 0.5)
    )


def gray_pixels_and_binary_ones_have_their_places(r: Record) -> bool:
    """Gray pixels cost at least their entropy; those that a model was trained on, what its record
    says for the same images, up to 0.3 nats on average for its 5,000 draws."""
    by = columns(r)
    run = record_of(r["model"])
    of_run = torch.tensor(run.nll_per_image).double()[::4]
    off = by["fixed" if run.binary else "gray"] - of_run
    return (
        bool((by["gray"] > by["entropy"]).all())
        and bool((by["density"] < -1_000).all())
        and bool((by["fixed"] != by["redrawn"]).all())
        and abs((by["fixed"] - by["redrawn"]).mean()) < 1 < (by["gray"] - by["fixed"]).mean()
        and abs(off.mean()) < 0.3
        and off.std() < (10 if run.binary else 1.5)
    )


def the_latents_are_those_of_the_run(r: Record) -> bool:
    """On all test images a latent has about the KL and the variance that it has on 2,000."""
    (part,) = r["parts"]
    run = record_of(r["model"])
    pairs = zip(
        [*part["kl"], *part["variance"]],
        [*run.kl_per_latent, *run.variance_per_latent],
        strict=True,
    )
    dim_z = models.build(RUNS[r["model"]].model).dim_z
    return part["dim_z"] == dim_z and all(
        math.isclose(a, b, rel_tol=0.1, abs_tol=0.01) for a, b in pairs
    )


@functools.cache
def sizes_of_blocks(model: str) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in blocks(models.build(model)).items()}


def signal_and_noise_make_the_ratio(r: Record) -> bool:
    sizes = sizes_of_blocks(RUNS[r["model"]].model)
    floor = math.sqrt(2 / (math.pi * r["options"]["repeats"]))
    return all(
        part["snr"].keys() == sizes.keys()
        and all(
            v["whole"] == math.sqrt(max(v["signal"], 0) / v["noise"])
            and v["floor"] == floor < v["mean"]
            and 0 < v["median"] < 2 * v["mean"]
            and 0 < v["n"] <= sizes[name]
            for name, v in part["snr"].items()
        )
        and part["snr"]["encoder"]["noise"] > part["snr"]["encoder z"]["noise"]
        for part in r["parts"]
    )


LAWS: dict[str, list[Callable[[Record], bool]]] = {
    "nll": [more_draws_lower_the_nll_and_raise_the_ess],
    "ais": [ais_is_below_importance_sampling, ais_begins_at_the_nll_of_the_run],
    "on-test": [more_draws_lower_the_nll],
    "on-train": [more_draws_lower_the_nll],
    "mixture": [a_mixture_is_a_better_proposal],
    "coupling": [z_and_u_are_coupled],
    "bdmc": [the_bounds_enclose_log_p],
    "units": [the_latents_are_those_of_the_run],
    "pixels": [gray_pixels_and_binary_ones_have_their_places],
    "snr": [signal_and_noise_make_the_ratio],
    "start": [signal_and_noise_make_the_ratio],
}


def broken(record: Record) -> str:
    """The first law that does not hold; later ones may rely on it."""
    laws = [has_all_its_images_and_options, *LAWS[record["kind"]]]
    return next((law.__name__ for law in laws if not law(record)), "")


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [json.loads(path.read_bytes()) for path in sorted(results.MEASURED.glob("*.json"))]


def test_every_measurement_obeys_the_laws_of_its_kind(records):
    assert {record["kind"] for record in records} == {*KINDS} == {*LAWS}
    for record in records:
        assert not broken(record), (record["kind"], record["model"])
    parts = [json.dumps(part) for record in records for part in record["parts"]]
    assert len(set(parts)) == len(parts)


def test_every_model_that_a_kind_is_for_was_measured(records):
    found = {(record["kind"], record["model"]) for record in records}
    assert found == {(kind, model) for kind, how in KINDS.items() for model in how.models}


def exchanged(*names: str) -> Callable[[Record], None]:
    def change(part: Record) -> None:
        first, second = names
        part[first], part[second] = part[second], part[first]

    return change


def scaled(name: str, by: float) -> Callable[[Record], None]:
    def change(part: Record) -> None:
        part[name] = (torch.tensor(part[name]) * by).tolist()

    return change


# Changes to each part of a record.
EDITS: dict[str, list[Callable[[Record], None]]] = {
    "nll": [
        *(exchanged("ess", other) for other in ("nll", "delta", "dominated", "jackknife")),
        *(exchanged("jackknife", other) for other in ("delta", "dominated")),
        lambda part: part["nll"].reverse(),
        lambda part: part["nll"].pop(),
    ],
    "ais": [
        *(exchanged(f"ais_{name}", f"is_{name}") for name in ("nll", "se", "ess")),
        exchanged("ais_se", "ais_ess"),
        *(scaled(name, 1.2) for name in ("ais_se", "is_ess", "ais_acceptance", "is_nll")),
        lambda part: part["is_nll"].reverse(),
    ],
    "on-test": [
        *(exchanged("elbo", other) for other in ("iwae5", "nll")),
        exchanged("iwae5", "nll"),
        scaled("nll", 0.9),
        lambda part: part["nll"].reverse(),
    ],
    "on-train": [exchanged("elbo", "nll"), exchanged("iwae5", "nll"), scaled("nll", 1.1)],
    "mixture": [
        *(exchanged(f"own_{name}", f"mixed_{name}") for name in ("nll", "ess", "pareto")),
        exchanged("own_ess", "own_pareto"),
        scaled("own_nll", 1.05),
    ],
    "coupling": [
        *(exchanged("posterior", other) for other in ("mismatched", "q")),
        scaled("q", 2.0),
        scaled("mismatched", 2.0),
    ],
    "bdmc": [
        *(exchanged(f"lower_{name}", f"upper_{name}") for name in ("nll", "se", "ess")),
        exchanged("lower_nll", "is_nll"),
        exchanged("is_se", "reach"),
        scaled("upper_acceptance", 0.5),
    ],
    "units": [
        exchanged("kl", "variance"),
        scaled("kl", 1.2),
        lambda part: part["kl"].reverse(),
        lambda part: part.update(dim_z=part["dim_z"] - 1),
    ],
    "pixels": [
        *(exchanged("gray", other) for other in ("density", "fixed", "entropy")),
        lambda part: part.update(redrawn=part["fixed"]),
        scaled("fixed", 1.05),
    ],
    "snr": [
        *(exchanged(name, "noise") for name in ("signal", "mean", "floor")),
        exchanged("mean", "whole"),
        lambda block: block.update(n=10**6),
    ],
}


def test_a_measurement_edited_by_hand_breaks_a_law(records):
    """All its parts in the same way, or what it says about itself."""
    for record in records:
        for number, edit in enumerate(EDITS.get(record["kind"], [])):
            edited = copy.deepcopy(record)
            for part in edited["parts"]:
                for changed in part["snr"].values() if "snr" in part else [part]:
                    edit(changed)
            assert broken(edited), (record["kind"], record["model"], number)
        fewer = {**record["data"], "n": record["data"]["n"] - 1}
        for change in (
            {"parts": record["parts"][:-1]},
            {"data": fewer},
            {"data": {**record["data"], "name": "mini"}},
            {"options": {**record["options"], "rows": 1}},
            {"seconds": 0.0},
        ):
            assert broken({**record, **change}) == "has_all_its_images_and_options"
