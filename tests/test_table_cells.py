"""Every cell of every table, from records in which each field has a value of its own.

So two columns that are exchanged, a wrong label, sign, unit or row show. What a cell should hold is
computed here from the records, with numpy alone.
"""

import dataclasses
import json
import random
import re
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from tables import base, planted, speed, training, write
from tables.base import Seeds

from tvae_core.evaluation import Estimate
from tvae_core.experiments import results
from tvae_core.experiments.configs import RECIPES, RUNS
from tvae_core.experiments.records import Machine, RunRecord
from tvae_core.experiments.results import record_of

SMALL, WHOLE = 4, 10_000  # images; on all of them only their means are needed
DECODERS = {"plain": "plain VAE", "affine": "affine", "tps": "thin-plate spline"}
BINARY = {
    "vae-binarized": "VAE, k = 1",
    "multi5": "multi-sample VAE, k = 5",
    "iwae5": "IWAE, k = 5",
}
BASE = record_of("plain-vae")


def own(*what: object, least: float = 50, most: float = 150) -> float:
    """A number that belongs to these words alone."""
    return random.Random(" ".join(map(str, what))).uniform(least, most)


def record(profile: str, name: str, n: int, seed: int) -> RunRecord:
    def at(field: str, least: float = 50, most: float = 150) -> float:
        return own(profile, name, n, seed, field, least=least, most=most)

    def each(field: str) -> list[float]:
        return [at(f"{field} {i}") for i in range(SMALL)]

    nll, recon = each("nll"), each("recon")
    # The last seed was trained on another machine, whose seconds do not count.
    other = seed == 2
    return dataclasses.replace(
        BASE,
        name=name,
        seed=seed,
        config={**RUNS[name].settings(), "epochs": int(own(profile, name, "epochs"))},
        data={
            "train": {"name": "mnist", "n": 60_000 + int(own(name, "train"))},
            "test": {"name": "mnist", "n": n, "sha256": str(n)},
        },
        versions={p: f"{p}-{own(name, p):.0f}" for p in ("torch", "numpy", "python")},
        machine=Machine(f"{name}{' elsewhere' * other}", int(own(name, "threads"))),
        seconds={"train": at("train", 1e3, 1e5), "evaluate": at("evaluate", 1e3, 1e5)},
        curves=[{"seconds": at(f"epoch {i}", 1, 9)} for i in range(3)],
        nll=Estimate(float(np.mean(nll)), at("nll se", 0, 1)),
        recon=Estimate(float(np.mean(recon)), at("recon se", 0, 1)),
        kl_z=Estimate(at("kl_z"), at("kl_z se", 0, 1)),
        kl_u=Estimate(at("kl_u"), at("kl_u se", 0, 1)),
        nll_mc_se=at("mc", 0, 1),
        nll_ks=[1, int(own(profile, name, "draws"))],
        nll_at=[at("nll of one draw"), at("nll of all draws")],
        ess_median=at("ess"),
        nll_per_image=nll,
        recon_per_image=recon,
        kl_per_latent=[0.09] * 3 + [0.11] * int(at("informative", 1, 50)),
        variance_per_latent=[0.009] * 3 + [0.011] * int(at("active", 1, 50)),
    )


class Asked(dict):
    """Records by run, and the names of the runs that were asked for."""

    def __init__(self, profile: str) -> None:
        super().__init__(
            {
                name: {
                    SMALL: Seeds([record(profile, name, SMALL, seed) for seed in range(3)]),
                    WHOLE: Seeds([record(profile, name, WHOLE, seed) for seed in range(2)]),
                }
                for name in RUNS
            }
        )
        self.names: set[str] = set()

    def get(self, name: str, *default: object) -> dict[int, Seeds]:
        self.names.add(name)
        return super().get(name, *default)


def group(name: str, n: int = SMALL, profile: str = "paper") -> list[RunRecord]:
    """The records of a run's seeds."""
    return RECORDS[profile][name][n].records


def of(name: str, field: str = "nll", n: int = SMALL, profile: str = "paper") -> list[float]:
    """A field's mean for each seed of a run."""
    return [getattr(r, field).mean for r in group(name, n, profile)]


def first(name: str, n: int = SMALL) -> RunRecord:
    return group(name, n)[0]


def pm(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def less(a: str, b: str, profile: str = "paper") -> tuple[float, float]:
    """Run a less run b, over the same images, and the error over images and seeds."""
    images = [np.mean([r.nll_per_image for r in group(x, SMALL, profile)], 0) for x in (a, b)]
    gaps = images[0] - images[1]
    variance = gaps.var(ddof=1) / SMALL + sum(
        np.var(of(x, profile=profile), ddof=1) / 3 for x in (a, b)
    )
    return gaps.mean(), variance**0.5


def gap(a: str, b: str, profile: str = "paper") -> str:
    return "{:+.2f} ± {:.2f}".format(*less(a, b, profile))


RECORDS = {profile: Asked(profile) for profile in ("paper", "validation")}
AIS_IMAGES = 5


def annealed(name: str, way: str) -> np.ndarray:
    """What AIS or importance sampling finds for each image."""
    return np.array([own(name, way, i) for i in range(AIS_IMAGES)])


def measured(name: str) -> dict:
    fields = ("ais_nll", "ais_se", "ais_ess", "ais_acceptance", "is_nll", "is_se", "is_ess")
    columns = {field: list(annealed(name, field)) for field in fields}
    parts = [{f: values[i : i + 1] for f, values in columns.items()} for i in range(AIS_IMAGES)]
    return {"kind": "ais", "data": {"n": AIS_IMAGES}, "parts": parts}


@pytest.fixture(autouse=True)
def recorded(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(base, "records", RECORDS.__getitem__)
    monkeypatch.setattr(training, "MEASURED", tmp_path)
    monkeypatch.setattr(speed, "benchmark", BENCHES.__getitem__)
    monkeypatch.setattr(planted, "RESULTS", tmp_path)
    (tmp_path / "mutants.csv").write_text(MUTANTS, encoding="utf-8")
    for name in {*annealed_runs(), *RECIPES["looks"], *RECIPES["modern"]}:
        (tmp_path / f"ais-{name}.json").write_text(json.dumps(measured(name)), encoding="utf-8")


# The tables, as they should be.


def models() -> list[list[str]]:
    """The networks of the study: see also `test_models`."""
    return [
        ["decoder", "latents z", "latents u", "parameters"],
        ["plain VAE", "60", "0", "580,488"],
        ["affine", "54", "6", "578,994"],
        ["thin-plate spline", "42", "18", "576,222"],
    ]


def settings() -> list[list[str]]:
    return [
        ["choice", "study", "modern"],
        ["images in a batch", "100", "100"],
        ["optimizer", "AdaDelta, falling rate", "Adam, one cycle"],
        ["highest learning rate", "1", "0.003"],
        ["epochs of warm-up", "0", "5"],
        ["first bias of the pixels", "near 0", "the mean image's"],
        ["gradient", "reparameterized", "DReG"],
        ["what is warped", "probabilities", "logits"],
        ["outside the frame", "paper", "paper"],
        ["deviation of the first W", "0.1", "0.1"],
    ]


def gray() -> list[list[str]]:
    """The study's numbers are those of its first table."""
    study = {"plain": ("88.27", "101.14"), "affine": ("83.63", "99.18"), "tps": ("82.86", "97.91")}
    head = ["decoder", "recon, study", "recon, ours", "NLL, study", "NLL, ours"]
    return [head] + [
        [words, study[d][0], pm(of(f"{d}-vae", "recon")), study[d][1], pm(of(f"{d}-vae"))]
        for d, words in DECODERS.items()
    ]


# By which objective the study's NLL on binary pixels was trained: its headers were exchanged.
STUDY = {
    "iwae5": {"plain": "93.99", "affine": "92.75", "tps": "92.16"},
    "multi5": {"plain": "98.30", "affine": "96.06", "tps": "94.00"},
    "vae-binarized": dict.fromkeys(DECODERS, base.UNKNOWN),
}


def five_draws() -> list[list[str]]:
    head = ["decoder", "IWAE, study", "IWAE, ours", "multi-sample, study", "multi-sample, ours"]
    return [head] + [
        [
            words,
            *(STUDY["iwae5"][d], pm(of(f"{d}-iwae5"))),
            *(STUDY["multi5"][d], pm(of(f"{d}-multi5"))),
        ]
        for d, words in DECODERS.items()
    ]


GAPS = [
    "trained with",
    "affine minus plain VAE",
    "thin-plate spline minus plain VAE",
    "thin-plate spline minus affine",
]


def gaps_of(run: str) -> list[str]:
    """Of a run's name, with {} for its decoder."""
    pairs = (("affine", "plain"), ("tps", "plain"), ("tps", "affine"))
    return [gap(run.format(a), run.format(b)) for a, b in pairs]


def gaps() -> list[list[str]]:
    objectives = {"vae": "VAE, k = 1, gray", **BINARY}
    return [GAPS] + [[words, *gaps_of(f"{{}}-{o}")] for o, words in objectives.items()]


def better(decoder: str, objective: str, recipe: str) -> str:
    return f"{decoder}-{objective.removesuffix('-binarized')}-{recipe}"


def better_gaps() -> list[list[str]]:
    return [GAPS] + [
        [f"{words}, {epochs} epochs", *gaps_of(better("{}", o, recipe))]
        for recipe, epochs in (("modern", 50), ("long", 200))
        for o, words in BINARY.items()
    ]


def recipes() -> list[list[str]]:
    head = ["trained with", "decoder", "study", "its recipe, ours"]
    return [[*head, "modern, 50 epochs", "modern, 200 epochs"]] + [
        [
            words,
            decoder,
            STUDY[o][d],
            *(pm(of(f"{d}-{o}")), pm(of(better(d, o, "modern"))), pm(of(better(d, o, "long")))),
        ]
        for o, words in BINARY.items()
        for d, decoder in DECODERS.items()
    ]


KINDS = ("straight", "straight-mean", "pose")
AGAIN = [f"{d}-{kind}" for kind in KINDS for d in ("affine", "tps")] + [
    "plain-wide",
    "affine-unbounded",
]


def annealed_runs() -> list[str]:
    return [
        name
        for objective in ("iwae5", "multi5")
        for recipe in ("", "-modern", "-long")
        for d in (*DECODERS, *AGAIN)
        if (name := f"{d}-{objective}{recipe}") in RUNS
    ]


def annealed_gaps() -> list[list[str]]:
    rows = [["run", "NLL", "too high by", "corrected", "corrected, minus plain"]]
    for name in annealed_runs():
        plain = re.sub("^.+(?=-(iwae|multi))", "plain", name)
        excess, its = (annealed(x, "is_nll") - annealed(x, "ais_nll") for x in (name, plain))
        error = excess.std(ddof=1) / AIS_IMAGES**0.5
        corrected = f"{np.mean(of(name)) - excess.mean():.2f}"
        row = [f"`{name}`", pm(of(name)), f"{excess.mean():.2f} ± {error:.2f}", corrected, ""]
        if name != plain:
            more = excess - its
            nats, sampling = less(name, plain)
            both = (sampling**2 + more.var(ddof=1) / AIS_IMAGES) ** 0.5
            row[-1] = f"{nats - more.mean():+.2f} ± {both:.2f}"
        rows.append(row)
    return rows


def looks() -> list[list[str]]:
    rows = [
        ["run", "seeds", "NLL", "minus plain", "minus the same decoder, one look", "too high by"]
    ]
    longer = ("affine-straight", "tps-straight", "plain-wide", "affine-unbounded")
    groups = {
        "{}-iwae5-modern": AGAIN,
        "{}-iwae5-long": longer,
        "{}-vae-modern": longer[:2],
        "{}-multi5-modern": longer[:2],
    }
    for group, again in groups.items():
        for model in (*DECODERS, *again):
            name, decoder = group.format(model), model.partition("-")[0]
            plain, once = group.format("plain"), group.format(decoder)
            excess = annealed(name, "is_nll") - annealed(name, "ais_nll")
            error = excess.std(ddof=1) / AIS_IMAGES**0.5
            rows.append(
                [
                    f"`{name}`",
                    "3",
                    pm(of(name)),
                    "" if name == plain else gap(name, plain),
                    "" if model in DECODERS or decoder == "plain" else gap(name, once),
                    f"{excess.mean():.2f} ± {error:.2f}",
                ]
            )
    return rows


def ablation() -> list[list[str]]:
    choices = {
        "adadelta": "AdaDelta and its decay, as in the study",
        "constant-rate": "Adam at a constant 0.001",
        "lower-peak": "one cycle with its peak at 0.001",
        "no-warm-up": "no warm-up of the KL",
        "zero-start": "decoder bias not at the mean image",
        "reparameterized": "reparameterized gradient, not DReG",
        "probs": "probabilities warped, not logits",
        "border": "border padding",
        "small-pose": "first W ten times smaller",
        "large-pose": "first W three times larger",
    }
    best = {d: f"{d}-iwae5-modern" for d in ("plain", "affine")}
    rows = [["the modern recipe, but", "plain VAE", "affine"]]
    rows.append(
        ["nothing: its NLL", *(pm(of(name, profile="validation")) for name in best.values())]
    )
    for choice, words in choices.items():
        warped = choice in ("probs", "border", "small-pose", "large-pose")
        plain = "" if warped else gap(f"plain-iwae5-{choice}", best["plain"], "validation")
        rows.append([words, plain, gap(f"affine-iwae5-{choice}", best["affine"], "validation")])
    return rows


def draws() -> list[list[str]]:
    columns = {
        "1": ("plain-multi1", "plain-multi1"),
        "5": ("plain-iwae5", "plain-multi5"),
        "50": ("plain-iwae50", "plain-multi50"),
    }
    return [["draws k", "IWAE", "multi-sample VAE", "epochs"]] + [
        [k, pm(of(iwae)), pm(of(multi)), str(first(iwae).config["epochs"])]
        for k, (iwae, multi) in columns.items()
    ]


def whole() -> list[list[str]]:
    head = ["run", "seeds", "recon", "KL(z)", "KL(u)", "NLL"]
    rows = [[*head, "s.e. over images", "Monte-Carlo s.e.", "median ESS"]]
    for name in RUNS:
        r = first(name, WHOLE)
        means = [pm(of(name, field, WHOLE)) for field in ("recon", "kl_z", "kl_u", "nll")]
        errors = [f"{r.nll.se:.2f}", f"{r.nll_mc_se:.3f}", f"{r.ess_median:.0f}"]
        rows.append([f"`{name}`", "2", *means, *errors])
    return rows


def runs() -> list[list[str]]:
    head = ["run", "seeds", "recon", "NLL", "s.e. over images", "Monte-Carlo s.e."]
    rows = [[*head, "epochs", "minutes", "machine"]]
    for name in RUNS:
        r = first(name)
        alike = [other.seconds["train"] for other in group(name)[:2]]
        row = [f"`{name}`", "3", pm(of(name, "recon")), pm(of(name))]
        row += [f"{r.nll.se:.2f}", f"{r.nll_mc_se:.3f}", str(r.config["epochs"])]
        row += [f"{statistics.mean(alike) / 60:.0f}", f"{name}, {r.machine.threads} threads"]
        rows.append(row)
    return rows


def by_numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def protocol() -> list[list[str]]:
    def all_of(value) -> str:
        return ", ".join(sorted({value(first(name)) for name in RUNS}, key=by_numbers))

    return [
        ["what", "value"],
        ["training images", all_of(lambda r: f"{r.data['train']['n']:,}")],
        ["test images", f"{SMALL}, {WHOLE:,}"],
        ["importance samples for each image", all_of(lambda r: str(r.nll_ks[-1]))],
        ["seeds", "0, 1, 2"],
        ["PyTorch", all_of(lambda r: r.versions["torch"])],
        ["Python", all_of(lambda r: r.versions["python"])],
    ]


# Each processor has a time for each task, decoder and style; the GPU also trains side by side.
STYLES = {"tutorial": 1, "tvae_core": 0.1, "side by side": 0.01}


def bench(processor: str) -> dict:
    def times(d: str, k: int | None) -> dict[str, float]:
        styles = list(STYLES) if processor == "gpu" and k else ["tutorial", "tvae_core"]
        return {s: own(processor, d, k, s, least=1, most=60) * STYLES[s] for s in styles}

    epochs = [{"decoder": d, "k": k, **times(d, k)} for k in (1, 5) for d in DECODERS]
    nll = [{"decoder": d, **times(d, None)} for d in DECODERS]
    found = {"processor": f"the {processor}", "cpu": f"cpu of {processor}", "cores": 7}
    found |= {"tries": {"seconds_per_epoch": 3, "seconds_per_nll": 4}}
    found |= {"seconds_per_epoch": epochs[::-1], "seconds_per_nll": nll[::-1]}
    return found | ({"seeds_side_by_side": 6} if processor == "gpu" else {})


BENCHES = {name: bench(name) for name in ("avx2", "avx512", "gpu")}


MUTANTS = """room,file,the mistake,caught by
warps,warps.py,one,`a.py::test_a`
warps,warps.py,another,`a.py::test_a`
warps,warps.py,a third,nothing
data,data.py,one,`a.py::test_a`
data,data.py,another,`b.py::test_b`
"""


def mistakes() -> list[list[str]]:
    head = ["part", "planted", "caught", "by how many tests"]
    return [head, ["warps", "3", "2", "1"], ["data", "2", "2", "2"], ["all", "5", "4", "2"]]


def two_digits(x: float) -> float:
    return round(x) if x >= 100 else float(f"{x:.1e}")


TABLES = {
    "models": models,
    "gray": gray,
    "five_draws": five_draws,
    "gaps": gaps,
    "settings": settings,
    "recipes": recipes,
    "better_gaps": better_gaps,
    "annealed": annealed_gaps,
    "looks": looks,
    "ablation": ablation,
    "draws": draws,
    "whole": whole,
    "runs": runs,
    "protocol": protocol,
    "planted": mistakes,
}


def test_every_cell_of_every_table_shows_what_its_row_and_column_say(subtests):
    # "speed" has a test below, the others have files of their own.
    assert {*TABLES, "speed", "where", "turns", "map", "own_images", "own_settings"} == {
        *write.TABLES
    }
    for name, expected in TABLES.items():
        with subtests.test(name):
            made = write.TABLES[name]().rows
            for row, wanted in zip(made, expected(), strict=True):
                assert row == wanted


def test_the_table_of_speed_shows_times_in_its_unit_and_how_many_times_as_fast(subtests):
    head, *rows = write.TABLES["speed"]().rows
    last = "the same, for each of 6 seeds side by side"
    assert head == ["task", "decoder", "the avx2", "the avx512", "the gpu", last]
    tasks = {"training, k = 1": 1, "training, k = 5": 5, "NLL-5,000": None}
    places = [(task, k, d) for task, k in tasks.items() for d in DECODERS]
    for row, (task, k, d) in zip(rows, places, strict=True):
        with subtests.test(task, decoder=d):
            assert row[:2] == [task, DECODERS[d]]
            assert (row[-1] == "") == (k is None)
            columns = [(name, "tvae_core") for name in BENCHES] + [("gpu", "side by side")]
            for cell, (processor, style) in zip(row[2:], columns, strict=True):
                if not cell:
                    continue
                kind = "seconds_per_nll" if k is None else "seconds_per_epoch"
                (times,) = (
                    r for r in BENCHES[processor][kind] if (r["decoder"], r.get("k")) == (d, k)
                )
                time, unit, ratio = cell.replace(",", "").rstrip(speed.TIMES).split()
                assert unit == ("ms" if k is None else "s")
                seconds = times[style] * (1_000 if k is None else 1)
                assert float(time) == two_digits(seconds)
                assert float(ratio) == two_digits(times["tutorial"] / times[style])


def test_a_table_lists_the_runs_that_it_reads():
    """Its caption counts their seeds and names those that are outdated."""
    for name, make in write.TABLES.items():
        for found in RECORDS.values():
            found.names.clear()
        table = make()
        assert sorted(table.runs) == sorted(RECORDS[table.profile].names), name
        assert sum(len(found.names) for found in RECORDS.values()) == len(table.runs), name


def test_the_summaries_that_ship_hold_each_seed_of_each_run():
    seeds = json.loads(write.seeds_summary())
    assert list(seeds) == list(RUNS)
    for name, found in seeds.items():
        assert found == {
            "recon": of(name, "recon"),
            "nll": of(name),
            "active": [len(r.variance_per_latent) - 3 for r in group(name)],
            "informative": [len(r.kl_per_latent) - 3 for r in group(name)],
            "seconds": [
                round(np.min([row["seconds"] for row in r.curves]), 3) for r in group(name)
            ],
        }
    held_out = json.loads(write.validation_summary())
    bases = {"ablation": "{}-iwae5-modern", "gradients": "{}-iwae16-reparameterized"}
    for recipe, base_run in bases.items():
        for name, config in RECIPES[recipe].items():
            against = base_run.format(config.model)
            one = results.Validation(**held_out.pop(name))
            r = group(name, profile="validation")[0]
            assert one.nll == of(name, profile="validation")
            assert one.base == against
            expected = None if name == against else pytest.approx(less(name, against, "validation"))
            assert one.gap == expected
            assert (one.epochs, one.samples) == (r.config["epochs"], r.nll_ks[-1])
            assert one.images == SMALL
    assert not held_out
