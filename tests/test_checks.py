"""Whatever a public function is given, it takes it or says in a sentence what it wants."""

import importlib
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tvae_core import bounds, data, estimators, models, own, training
from tvae_core.experiments import runner
from tvae_core.explorer import explorer
from tvae_core.moved import Moves
from tvae_core.networks import PixelBernoulli
from tvae_core.poses import Poses
from tvae_core.runtime import seeded
from tvae_core.warps import Warp, make_warp, tps_basis

ROOMS = (
    *("ais", "bounds", "data", "diagnostics", "estimators", "evaluation", "gradients"),
    *("models", "moved", "plots", "poses", "runtime", "scores", "training", "warps"),
    *("own.aligning", "own.convolutions", "own.expected", "own.folders", "own.pixels"),
    *("own.shards", "own.training"),
)
# What a room shares with others, or with itself, but no user calls; and what takes nothing.
INNER = {
    *("ais.Path", "ais.anneal", "ais.transition", "ais.tune", "ais.walk"),
    *("data.data_folder", "data.import_torchvision_datasets", "estimators.slope_and_curvature"),
    *("models.VAE", "models.check_images", "plots.use_style"),
    *("runtime.is_live", "runtime.locked", "runtime.pick_device", "runtime.rng_state"),
    *("runtime.set_rng_state", "runtime.write_atomically"),
    *("training.describe", "training.print_every", "own.pixels.ContinuousPixels"),
    *("own.shards.place", "own.shards.together"),
}
IWAE = estimators.reparameterized(bounds.iwae)
SIZE = (4, 6)
FOLDER = Path(__file__).parents[1] / "book" / "static"


@pytest.fixture(autouse=True)
def _without_figures():
    yield
    plt.close("all")


def some() -> SimpleNamespace:
    with seeded(0):
        model = models.build("affine", SIZE, dim_z=3, hidden=(8,))
        x, latents = torch.rand(4, 1, *SIZE), torch.randn(4, 9)
        particles = model.particles(x, 4)
    images, grid, ax = data.from_tensor(x), model.grid(latents).detach(), plt.figure().subplots()
    return SimpleNamespace(**locals())


def calls() -> dict[str, dict]:
    """Arguments of each public function: as many as it has, so that each can be replaced."""
    s = some()
    model, images = {"model": s.model}, {"model": s.model, "images": s.images}
    chains = {"n_distributions": 3, "chains": 2, "start": "q", "leapfrog": 1, "rows": 10}
    draws = {name: value for name, value in chains.items() if name != "rows"}
    log_w, particles = {"log_w": s.particles.log_w.detach()}, {"particles": s.particles}
    weighted = particles | {"kl_weight": 0.5}
    bound, size, schedule = {"bound": bounds.iwae}, {"size": SIZE}, {"epochs": 2, "batches": 3}
    ax, title, points = {"ax": s.ax}, {"title": "one"}, torch.rand(4, 2)
    pixels = torch.zeros(2, 1, *SIZE).byte()
    history = [{"epoch": 1, "recon": 2.0}]
    layers = {**size, "dim_z": 3, "hidden": [8]}
    warped = {"canonical": models.Decoder(SIZE, 3), "warp": Warp(tps_basis(SIZE)), "dim_u": 2}
    look, moves = {"look": "straight"}, {"moves": Moves(degrees=10)}
    pixels_of, logits = {"pixels": PixelBernoulli}, {"logits": s.x}
    ranges = {"degrees": 1.0, "shift": 1.0, "scale": 1.0, "shear": 1.0, "bend": 1.0}
    maps, seed = torch.eye(2, 3).expand(3, -1, -1), {"seed": 0}
    many, small = data.from_tensor(torch.rand(20, 1, *SIZE)), {"dim_z": 2, "hidden": 8, "seed": 0}
    normal = {"likelihood": "normal", "noise": 0.1}
    no_more = {"shift": None, "scale": None, "fixed": False}
    mlp, second = (
        {"body": "mlp", "turn": None, **no_more},
        {"model": own.training.new_model("rotation", SIZE, 2, 8)},
    )
    known, options = Poses({"degrees": torch.zeros(2)}), {"warp": "affine", "epochs": 1}
    labelled = {"x": torch.randn(20, 3), "labels": torch.arange(20) % 2}
    return {
        "ais.ais": {**model, "x": s.x, **chains},
        "ais.bdmc": {**model, "x": s.x, "latents": s.latents, **chains},
        "ais.simulate": {**model, "n": 2},
        "ais.schedule": {"n": 2},
        "ais.posterior_draws": {**model, "x": s.x, "n": 2, **draws},
        "bounds.elbo": log_w,
        "bounds.iwae": log_w,
        "bounds.miwae": {**log_w, "m": 2},
        "bounds.ciwae": {**log_w, "beta": 0.5},
        "data.from_tensor": {"x": s.x, "labels": [1, 2, 3, 4], "name": "own"},
        "data.load": {"name": "mini", "split": "test", "fallback": "mini"},
        "data.binarize_fixed": {"images": s.images, "seed": 0},
        "data.Images": {"pixels": pixels, "labels": torch.arange(2), "name": "own"},
        "data.Batches": {"images": s.images, "batch_size": 2, "binarization": "none", "stack": 2},
        "diagnostics.nll_curve": {**images, "ks": [1, 3], "rows": 10},
        "diagnostics.curve_of": {**log_w, "ks": (1, 4)},
        "diagnostics.log_weights": {**images, "n": 3, "rows": 10},
        "diagnostics.with_gray_density": model,
        "diagnostics.Mixture": {**model, "encoders": [s.model.encoder]},
        "diagnostics.fit_proposal": {
            **model,
            "x": s.x,
            "steps": 1,
            "k": 2,
            "batch": 2,
            "rate": 0.1,
        },
        "diagnostics.pareto_k": {"log_w": torch.randn(30, 2)},
        "estimators.log_weights": weighted,
        "estimators.path_log_weights": weighted,
        "estimators.analytic_kl": weighted,
        "estimators.stl": weighted,
        "estimators.dreg": weighted,
        "estimators.reparameterized": bound,
        "estimators.path_derivative": bound,
        "estimators.doubly_reparameterized": bound,
        "estimators.paired": {"encoder": IWAE, "decoder": IWAE},
        "evaluation.elbo_terms": {**images, "draws": 2},
        "evaluation.units": images,
        "evaluation.nll": {**images, "n_samples": 4, "ks": [2], "rows": 9, "accelerate": None},
        "evaluation.mean_se": {"values": torch.rand(3)},
        "gradients.gradient_snr": {**model, "x": s.x, "estimator": IWAE, "k": 2, "repeats": 2},
        "gradients.blocks": model,
        "models.build": {
            "name": "affine",
            **layers,
            "dim_u": 6,
            "encoder_hidden": [8, 8],
            **look,
            **pixels_of,
        },
        "models.SecondLook": {"decoder": s.model.decoder, **layers, "dim_u": 6, **look},
        "models.Encoder": {**layers, "dim_u": 0},
        "models.Decoder": {**layers, **pixels_of},
        "models.WarpedDecoder": {**warped, "pose_std": 1, "resample": "probs", "padding": "zeros"},
        "models.start_at_mean": {**model, "mean": torch.full((1, *SIZE), 0.5), "floor": 0.01},
        "moved.Moves": ranges,
        "moved.moved": {"images": s.images, **moves, "canvas": (8, 8), **seed},
        "moved.glyphs": {"n": 2, **moves, "size": (9, 9), "height": 5.0, **seed, "pose_seed": 1},
        "poses.drawn": {**model, "x": s.x, "draws": 2, "origin": maps[0]},
        "poses.summary": {"maps": maps[None], "bend": torch.zeros(1, len(maps))},
        "poses.Poses": {"columns": {"degrees": torch.zeros(2)}},
        "poses.table": {**images, "reference": s.images, "draws": 2, "nll_samples": 2},
        "poses.align": {**images, "reference": s.images},
        "poses.maps": {**images, "reference": s.images},
        "poses.reference_of": {"images": s.images, "reference": s.images},
        "poses.maps_of": {**model, "x": s.x, "u": torch.zeros(len(s.x), s.model.dim_u)},
        "poses.mean_map": {**model, "reference": s.images},
        "poses.moments": {"images": s.images},
        "poses.moments_maps": {"images": s.images},
        "poses.relative": {"maps": maps, "origin": maps[0], **size},
        "poses.decompose": {"maps": maps},
        "poses.compose": {"after": maps, "first": maps},
        "poses.inverse": {"maps": maps},
        "scores.moves": {"before": maps, "after": maps, "true": maps, "period": 180},
        "scores.explained_poses": {
            "found": torch.cat([maps, maps]),
            "true": torch.cat([maps, maps]),
        },
        "scores.short_way": {"degrees": torch.rand(3), "period": 180},
        "scores.mean_angle": {"angles": torch.rand(3)},
        "scores.features": images,
        "scores.probes": labelled,
        "scores.explained": {
            "x": torch.randn(20, 3),
            "target": torch.randn(20, 2),
            "forest": False,
        },
        "scores.dci": {"x": torch.randn(20, 3), "factors": torch.randn(20, 2)},
        "scores.within_class_variance": labelled,
        "own.aligning.Findings": {
            "poses": known,
            "z": torch.zeros(2, 1),
            "cluster": torch.arange(2),
        },
        "own.aligning.reference_of": {"images": s.images},
        "own.aligning.examine": {
            **images,
            "reference": s.images,
            "clusters": 2,
        },
        "own.aligning.aligned": {**images, "reference": s.images},
        "own.aligning.rebuilt": images,
        "own.aligning.blocks": {"images": s.images},
        "own.folders.from_folder": {
            "path": FOLDER,
            "size": 28,
            "fit": "pad",
            "invert": None,
            "contrast": "keep",
            "channels": 3,
        },
        "own.folders.Folder": {
            "images": s.images,
            "files": ("a",),
            "classes": (),
            "skipped": {},
            "changed": {},
        },
        "own.training.pose_first": {**model, "strict": 2.0},
        "own.convolutions.Look": {"shape": (1, *SIZE), "features": 3},
        "own.convolutions.Draw": {"features": 3, "shape": (1, *SIZE)},
        "own.convolutions.convolve": {**second, "features": 8},
        "own.expected.expect": {**second, "warp": "rotation", "turn": 9.0, **no_more},
        "own.expected.pose_warp": {**size, "units": ("turn", "shift")},
        "own.pixels.make_pixels": normal,
        "own.pixels.NormalPixels": {"noise": 0.1},
        "own.pixels.PixelNormal": {**logits, "noise": torch.tensor(0.1)},
        "own.pixels.best_constant": {**pixels_of, "x": s.x},
        "own.shards.share": {"images": s.images},
        "own.shards.shared": model,
        "own.shards.of_first": {"value": 3},
        "own.shards.checkpoint": {"path": None},
        "own.training.new_model": {"warp": "affine", **size, **small, **normal, **mlp},
        "own.training.epochs_for": {"n": 20},
        "own.training.shape_of": {"images": s.images},
        "own.training.train": {"images": many, **options, **small, "rate": 0.1, "folder": None},
        "own.training.problems": {
            **model,
            "seen": many,
            "held": s.images,
        },
        "own.training.seconds_for": {"images": many, **options},
        "plots.image": {**ax, "x": s.x[0], **title},
        "plots.tiles": {**ax, "images": s.x, "columns": 2, **title},
        "plots.rows": {**ax, "named": {"a": s.x}, **title},
        "plots.on_grid": {**ax, "x": s.x[0], "grid": s.grid[0], "every": 2, **title},
        "plots.field": {**ax, "displacement": s.grid[0], "every": 2, **title, "colour": "red"},
        "plots.control_points": {**ax, "points": points, "displacements": points, **size},
        "plots.curves": {**ax, "history": history, "names": {"recon": "loss"}},
        "plots.nll_against_k": {**ax, "ks": [1, 2], "nll_at": [9.0, 8.0], "label": "a"},
        "plots.against_draws": {**ax, "curves": {"a": {1: 0.5, 2: 0.4}}, **title},
        "runtime.seeded": {"seed": 0},
        "training.adadelta": {**model, **schedule},
        "training.adam": {**model, **schedule, "peak": 0.1},
        "training.adam_one_cycle": {**model, **schedule, "peak": 0.1},
        "training.fit": {
            **model,
            "batches": data.Batches(s.images, 2),
            "estimator": IWAE,
            "k": 2,
            "epochs": 1,
            "optimizer": training.adam,
            "warm_up": 0,
            "checkpoint": None,
            "accelerate": None,
            "after_epoch": None,
        },
        "warps.pixel_centres": size,
        "warps.translation_basis": size,
        "warps.similarity_basis": size,
        "warps.affine_basis": size,
        "warps.control_points": {"n": 3},
        "warps.tps_kernel": {"points": points, "centres": points},
        "warps.tps_basis": {**size, "n": 3},
        "warps.sample": {"images": s.x, "grid": s.grid, "padding": "zeros"},
        "warps.make_warp": {"name": "tps", **size},
        "warps.Warp": {"basis": tps_basis(SIZE), "to_theta": torch.sin, "n_params": 18},
    }


LOADER = DataLoader(TensorDataset(torch.zeros(2, 1, *SIZE)))
ARRAYS = [np.zeros((2, 1, *SIZE)), [0.5], LOADER, "images", 3, None]
# Wrong arguments, by the beginning of the annotation.
WRONG = {
    "int": [2.5, "3", -1, [1], True, None],
    "float": ["a", [1.0], torch.optim.Adam, None],
    "str": [3, ["mini"], None],
    "bool": ["yes", None],
    "Size": [28, (28,), (0, 5), (2.5, 3), "28", None],
    "Shape": [28, (28,), (0, 5), (2.5, 3), (1, 2, 3, 4), "28", None],
    "tuple[int, int]": [28, (28,), (0, 5), (2.5, 3), "28", None],
    "Sequence[int]": [3, "12", [1.5], (0,), None],
    "Sequence[": [3, "12", None],
    "Mapping[": [3, [1], None],
    "dict[": [3, [1], None],
    "Values": [3, LOADER, "images", None],
    "Images": [torch.zeros(2, 1, *SIZE), *ARRAYS],
    "Float[": [torch.zeros(2, 1, *SIZE, dtype=torch.int64), torch.zeros(0), *ARRAYS],
    "UInt8[": [torch.zeros(2, 1, *SIZE), torch.zeros(2, *SIZE).byte(), *ARRAYS],
    "Int64[": [torch.zeros(2), *ARRAYS],
    "Tensor": ARRAYS,
    "Weight": ["a", [1.0], None],
    "VAE": [torch.nn.Linear(2, 2), "affine", LOADER, None],
    "Warp": ["affine", None],
    "Moves": [(10, 2), 45.0, None],
    "Decoder": ["plain", None],
    "nn.Module": ["affine", None],
    "Any": [],
    "Axes": [plt, 3, None],
    "Particles": [torch.zeros(3, 2), None],
    "Estimator": ["iwae", 3, torch.optim.Adam, None],
    "Bound": ["iwae", 3, None],
    "Callable[": ["fast", 3],
    "Pixels": ["bernoulli", 3, None],
    "MakeOptimizer": [torch.optim.Adam, torch.optim.Adam([torch.ones(1)]), "adam", None],
    "Epochs": [3, iter([torch.zeros(2, 1, *SIZE)]), None],
    "Path": ["run.pt", 3, None],
    "History": [3, {}, None],
    "poses.Poses": [{}, None],
}


def wrong_for(name: str, annotation: str) -> list:
    (values, *_) = (values for start, values in WRONG.items() if annotation.startswith(start))
    if "| None" in annotation:
        values = [value for value in values if value is not None]
    if annotation.startswith('Float[Tensor, "*'):  # may be empty
        values = [v for v in values if not (isinstance(v, torch.Tensor) and not v.numel())]
    return values


def public(room: str) -> dict[str, object]:
    module = importlib.import_module(f"tvae_core.{room}")
    found = {}
    for name, thing in vars(module).items():
        ours = not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
        made = "__init__" in getattr(thing, "__dict__", {}) and "_is_protocol" not in vars(thing)
        if ours and (made or inspect.isfunction(thing)):
            found[f"{room}.{name}"] = thing
    return found


def test_every_public_function_of_the_core_is_tried():
    known = {name for room in ROOMS for name in public(room)}
    assert known == {*calls(), *INNER}


@pytest.mark.parametrize("room", ROOMS)
def test_another_kind_of_thing_is_refused_by_the_name_of_the_argument(subtests, room):
    tried = 0
    for name, right in calls().items():
        if not name.startswith(f"{room}."):
            continue
        function = public(room)[name]
        with subtests.test(name):
            function(**right)  # the right arguments are accepted
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not parameter.VAR_KEYWORD:
                for wrong in wrong_for(parameter.name, parameter.annotation):
                    tried += 1
                    with subtests.test(name, parameter=parameter.name, wrong=repr(wrong)):
                        sentence = rf"^{parameter.name} must be .+, got "
                        with pytest.raises((TypeError, ValueError), match=sentence):
                            function(**right | {parameter.name: wrong})
    assert tried > (0 if room == "runtime" else 5)


def test_methods_too(subtests):
    s = some()
    for refuse, sentence in {
        lambda: s.model.particles(s.x, 2.5): "k must be a whole number of at least 1, got 2.5",
        lambda: s.model.particles(s.x, 0): "k must be a whole number of at least 1, got 0",
        lambda: s.model.particles([1.0]): r"x must be a tensor of images \(.* got \[1.0\]",
        lambda: s.model.posterior(
            LOADER
        ): r"a DataLoader may make lists\), got an object of type DataLoader",
        lambda: s.model.posterior(s.x[:, 0]): r"expected images of shape \(B, 1, 4, 6\)",
        lambda: s.model.sample_latents(0): "n must be a whole number of at least 1, got 0",
        lambda: make_warp("affine", SIZE).grid([0.0] * 6): "params must be a Float tensor",
        lambda: make_warp("affine", SIZE)([1.0], torch.zeros(6)): "images must be a Float tensor",
        lambda: s.images[3]: r"one image is images\[i : i \+ 1\]",
        lambda: s.images[:0]: r"pixels must be .* shape \(0, 1, 4, 6\)",
    }.items():
        with subtests.test(sentence), pytest.raises((TypeError, ValueError), match=sentence):
            refuse()


def test_training_refuses_what_cannot_train(subtests):
    s = some()
    images = data.Batches(s.images, 2)
    for estimator in (bounds.elbo, bounds.iwae, bounds.miwae):
        with subtests.test(estimator.__name__):
            with pytest.raises(TypeError) as info:
                training.fit(s.model, images, estimator, epochs=1)
            assert re.search(r"log_w must be .*reparameterized|missing .* 'm'", str(info.value))
    for batches in (LOADER, [np.zeros((2, 1, *SIZE))], np.zeros((2, 1, *SIZE))):
        with (
            subtests.test(type(batches).__name__),
            pytest.raises((TypeError, ValueError), match=r"^x must"),
        ):
            training.fit(s.model, batches, IWAE, epochs=1)
    for epochs in (0, -1, 1.5):
        with (
            subtests.test(epochs=epochs),
            pytest.raises((ValueError, TypeError), match=r"^epochs"),
        ):
            training.fit(s.model, images, IWAE, epochs=epochs)


def test_arrays_and_lists_of_images_are_taken():
    x = torch.rand(3, 1, *SIZE)
    images = data.from_tensor(x, torch.arange(3))
    labels = [[0, 1, 2], (0, 1, 2), np.arange(3)]
    for values, same in zip([x.numpy(), x.tolist(), [*x.double().numpy()]], labels, strict=True):
        other = data.from_tensor(values, same)
        assert other.sha256() == images.sha256()
        assert torch.equal(other.labels, images.labels)


def test_runs_and_the_explorer_say_what_they_want():
    s, mini = some(), data.load("mini", "test")
    for refuse, sentence in {
        lambda: runner.run(3, mini, mini): "name must be a str, got 3",
        lambda: runner.run("plain-vae", mini.x, mini): "train must be data.Images",
        lambda: runner.run("plain-vae", mini, mini, seed=-1): "seed must be a whole number",
        lambda: runner.run_seeds("plain-vae", mini, mini, 3): "seeds must be a list, each item a",
        lambda: runner.run("plain-vae", mini, mini, profile="smoke"): "profile must be a Profile",
        lambda: runner.load_data("smoke"): "profile must be a Profile or None, got 'smoke'",
        lambda: explorer(s.model, mini.x): "images must be data.Images .* or None",
        lambda: explorer("affine-vae"): "model must be a VAE, got 'affine-vae'",
    }.items():
        with pytest.raises((TypeError, ValueError), match=sentence):
            refuse()
