"""The explorer's JavaScript computes the same as PyTorch."""

import base64
import copy
import json
import math
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tvae_core
from tvae_core import bounds, data, evaluation, models, warps
from tvae_core.explorer import export
from tvae_core.posteriors import Ordered
from tvae_core.runtime import seeded

EXPLORER = Path(tvae_core.__file__).parent / "explorer"
RUNNER = Path(__file__).parent / "explorer" / "run_model.mjs"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node to run the explorer's JavaScript")


def f32(tensor):
    """A tensor as a Float32Array argument."""
    return {"f32": tensor.flatten().tolist()}


def javascript(*calls, model=None, packed=False, images=None, binarized=False):
    """Results of calls (name, *arguments) to functions of the explorer's modules.

    `images` show which latents are informative.
    """
    job = {"folder": EXPLORER.as_uri(), "calls": calls}
    if model is not None:
        images = data.from_tensor(torch.zeros(1, 1, *model.size)) if images is None else images
        config, weights = export.describe(model, images, binarized)
        exact = base64.b64encode(weights.numpy().tobytes()).decode()
        job |= {"config": config} | (
            {"packed": export.pack(config, weights)} if packed else {"exact": exact}
        )
    done = subprocess.run([NODE, RUNNER], input=json.dumps(job), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def close(js, torch_value, atol):
    torch.testing.assert_close(
        torch.tensor(js, dtype=torch.float64).flatten(),
        torch_value.detach().double().flatten(),
        rtol=0,
        atol=atol,
    )


@torch.no_grad()
def as_packed(model):
    """The model with the weights that a page has, unpacked without the explorer's JavaScript."""
    config, weights = export.describe(model, data.from_tensor(torch.zeros(1, 1, *model.size)))
    raw = zlib.decompress(base64.b64decode(export.pack(config, weights)))
    rows = sum(d_out for _, d_out, _ in config["layers"])
    scales = np.frombuffer(raw[: 8 * rows], "<f4")
    low, high = np.frombuffer(raw[8 * rows :], "uint8").reshape(2, -1)
    multiples = torch.from_numpy(256.0 * high.view("int8") + low - 128)
    rounded, at, start = copy.deepcopy(model), 0, 0
    known = {(*layer.weight.shape, *layer.weight.flatten()[:9].tolist()): layer
             for layer in rounded.modules() if isinstance(layer, nn.Linear)}  # fmt: skip
    offset = 0
    for _, d_out, d_in in config["layers"]:
        n = d_out * d_in
        layer = known[(d_out, d_in, *weights[offset : offset + min(n, 9)].tolist())]
        steps = torch.from_numpy(scales[at : at + d_out].copy())
        bias = torch.from_numpy(scales[at + d_out : at + 2 * d_out].copy())
        assert torch.equal(layer.bias, bias)
        layer.weight.copy_(multiples[start : start + n].view(d_out, d_in) * steps[:, None])
        at, start, offset = at + 2 * d_out, start + n, offset + n + d_out
    return rounded


def drawn(q, noise):
    """Latents drawn from q with this noise, u before z, and the normal that they come from."""
    if not isinstance(q, Ordered):
        return q.mean + q.stddev * noise, q
    normal = q.at(q.u.mean + q.u.stddev * noise[..., -q.u.mean.shape[-1] :])
    return normal.mean + normal.stddev * noise, normal


@pytest.fixture(scope="module", params=export.SHOWN)
def shipped(request):
    model, _ = tvae_core.load_pretrained(request.param)
    return model.cpu()


@torch.no_grad()
def compare(model, images, noise, pixel, posterior, nats, packed=None):
    """Check everything that a page computes from a model against PyTorch.

    `packed` is the model whose weights the page gets, rounded; else they are the model's own.
    `pixel`, `posterior` and `nats` are the differences allowed.
    """
    q = model.posterior(images)
    latents, normal = drawn(q, noise)
    straightens = isinstance(q, Ordered) and model.encoder.look != "pose"
    answers = iter(
        javascript(
            *(["encode", "model", f32(x)] for x in images),
            *(["decode", "model", f32(latent)] for latent in latents),
            *(
                ["encodedParticle", "model", f32(x), f32(eps)]
                for x, eps in zip(images, noise, strict=True)
            ),
            model=packed or model,
            packed=packed is not None,
        )
    )
    for x, mean, sigma in zip(images, q.mean, q.stddev, strict=True):
        answer = next(answers)
        close(answer["mean"], mean, posterior)
        close(answer["sigma"], sigma, posterior)
        assert bool(answer.get("straightened")) == straightens
        if straightens:
            u = mean[model.dim_z :]
            close(answer["straightened"], model.encoder.straightened(x, u), pixel)
    for latent in latents:
        answer = next(answers)
        close(answer["image"], model.decoder(latent).mean, pixel)
        if model.dim_u:
            close(answer["canonical"], model.canonical(latent), pixel)
            close(answer["grid"], model.grid(latent), pixel)
    log_lik = torch.stack(
        [model.decoder(latent).log_prob(x) for latent, x in zip(latents, images, strict=True)]
    )
    log_prior = model.prior.log_prob(latents).sum(-1)
    log_q = q.log_prob(latents).sum(-1)
    answers = list(answers)
    close([answer["latents"] for answer in answers], latents, posterior)
    close([answer["normal"]["mean"] for answer in answers], normal.mean, posterior)
    close([answer["normal"]["sigma"] for answer in answers], normal.stddev, posterior)
    close([answer["logPrior"] for answer in answers], log_prior, nats)
    close([answer["logQ"] for answer in answers], log_q, nats)
    close([answer["logW"] for answer in answers], log_lik + log_prior - log_q, nats)


def golden(model, n=6):
    """Binary images, and noise for their latents."""
    images = export.some_digits()[:n]
    with seeded(0):
        noise = torch.randn(n, model.dim_z + model.dim_u)
    return data.binarize_fixed(images).x, noise


def test_shipped_models_agree_with_pytorch(shipped):
    compare(shipped, *golden(shipped), pixel=1e-4, posterior=1e-4, nats=5e-3)


def test_a_page_computes_what_pytorch_does_with_the_rounded_weights(shipped):
    rounded = as_packed(shipped)
    compare(rounded, *golden(shipped), packed=shipped, pixel=1e-4, posterior=1e-4, nats=5e-3)


@torch.no_grad()
def test_rounding_the_weights_costs_little(shipped):
    """The page says so: a pixel moves by at most 0.02, log p(x | z, u) by a quarter of a nat."""
    rounded, (_, noise) = as_packed(shipped), golden(shipped, 30)
    x = data.binarize_fixed(export.some_digits()).x
    q, rounded_q = (each.posterior(x) for each in (shipped, rounded))
    latents, _ = drawn(q, noise)
    there, here = (each.decoder(latents) for each in (shipped, rounded))
    assert (there.mean - here.mean).abs().max() < 0.02
    off = here.log_prob(x) - there.log_prob(x)
    assert off.abs().max() < 0.35
    assert off.square().mean().sqrt() < 0.1
    assert (q.mean - rounded_q.mean).abs().max() < 0.06


WARPED = [
    (name, options)
    for name in ("translation", "rotation", "similarity", "affine", "tps")
    for options in (
        {},
        {"padding": "border"},
        {"resample": "logits"},
        {"resample": "logits", "padding": "reflection"},
    )
]


def test_every_kind_of_decoder_agrees_with_pytorch(subtests):
    size = (10, 13)
    for name, options in [("plain", {}), ("affine", {"bounded": False}), *WARPED]:
        with subtests.test(name, **options):
            with seeded(1):
                model = models.build(name, size, dim_z=5, hidden=(9, 7), **options)
                for parameter in model.parameters():
                    parameter.data += 0.3 * torch.randn_like(parameter)
                images = torch.rand(3, 1, *size)
                noise = torch.randn(3, model.dim_z + model.dim_u)
            compare(model, images, noise, pixel=1e-4, posterior=1e-4, nats=1e-3)


LOOKS = [
    (look, warp, refine)
    for look in models.LOOKS[1:]
    for warp in ("affine", "tps")
    for refine in (0, 2)
]


@pytest.mark.parametrize("shift", [0.0, -0.95])
def test_every_second_look_agrees_with_pytorch(shift, subtests):
    """The shift puts the affine grids near one point, where their inverse is kept small."""
    size = (10, 13)
    for look, warp, refine in LOOKS:
        with subtests.test(look=look, warp=warp, refine=refine), seeded(1):
            options = {"hidden": (9, 7), "look": look}
            model = models.build(warp, size, dim_z=5, dim_u=4, resample="logits", **options)
            model.encoder.refine = refine
            for parameter in model.parameters():
                parameter.data += 0.3 * torch.randn_like(parameter)
            pose = model.decoder.pose
            pose.weight.data *= 0.3
            if warp == "affine":
                pose.bias.data *= 0.1
                pose.bias.data[[0, 4]] += shift
            images, noise = torch.rand(3, 1, *size), torch.randn(3, model.dim_z + model.dim_u)
            compare(model, images, noise, pixel=1e-4, posterior=1e-4, nats=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("look", models.LOOKS[1:])
def test_z_is_read_given_the_u_that_was_drawn(look):
    """Also for a u far from the mean. Only "straight" then sees another image."""
    with seeded(4):
        model = models.build("affine", (10, 13), dim_z=5, hidden=(9, 7), pose_std=0.3, look=look)
        x, us = torch.rand(1, 1, 10, 13), 2 * torch.randn(4, 6)
        q = model.posterior(x)
    answers = javascript(*(["given", "model", f32(x), f32(u)] for u in us), model=model)
    for answer, u in zip(answers, us, strict=True):
        expected = q.at(u.unsqueeze(0))
        close(answer["mean"], expected.mean, 1e-4)
        close(answer["sigma"], expected.stddev, 1e-4)


def test_inverse_grids_agree_with_the_warps(subtests):
    """Also where the affine part turns the picture over or almost flattens it."""
    size, flat = (6, 9), [[-0.97, 0.0, 0.1, 0.0, -0.2, 0.3], [-1.03, 0.1, 0.0, 0.0, -0.1, 0.2]]
    for name in ("translation", "rotation", "similarity", "affine", "tps"):
        warp = warps.make_warp(name, size)
        with seeded(3):
            thetas = [*0.3 * torch.randn(4, warp.n_params)]
        if name == "affine":
            thetas += [*torch.tensor([*flat, [-2.0, 0.0, 0.0, 0.2, 0.0, 0.0]])]
        for refine in (0, 3):
            options = {"refine": refine, "least_det": warps.LEAST_DET}
            calls = [["inverse", name, size, 3, theta.tolist(), options] for theta in thetas]
            for theta, grid in zip(thetas, javascript(*calls), strict=True):
                with subtests.test(name, refine=refine, theta=theta.tolist()):
                    close(grid, warp.inverse_grid(theta, refine), 2e-5)


def test_a_runaway_log_sigma_is_clamped():
    with seeded(2), torch.no_grad():
        model = models.build("plain", (4, 6), dim_z=3, hidden=(5,))
        model.encoder.log_sigma.bias.copy_(torch.tensor([-30.0, 0.5, 30.0]))
        x = torch.rand(1, 1, 4, 6)
        (answer,) = javascript(["encode", "model", f32(x)], model=model)
        close(torch.tensor(answer["sigma"]).log().tolist(), model.posterior(x).stddev.log(), 1e-4)


def test_displacement_fields_agree_with_the_warps_basis():
    size = (6, 9)
    points = warps.pixel_centres(size).flatten().tolist()
    for name, n in [("translation", 0), ("similarity", 0), ("affine", 0), ("tps", 3), ("tps", 4)]:
        warp = warps.make_warp(name, size, **({"n": n} if n else {}))
        (fields,) = javascript(["fields", name, size, n, points])
        close(fields, warp.basis, 1e-6)


@pytest.mark.parametrize("padding", warps.PADDINGS)
def test_sampling_inside_and_far_outside_the_frame(padding):
    with seeded(3):
        image, grid = torch.rand(1, 5, 7), 6 * torch.rand(5, 7, 2) - 3
    (seen,) = javascript(["sample", f32(image), [5, 7], f32(grid), padding])
    close(seen, warps.sample(image, grid, padding), 1e-5)


def test_u_from_theta_is_the_least_squares_solution():
    """It is exact where W is square."""
    with seeded(4):
        for dim_u in (6, 4, 9):
            model = models.build("affine", dim_z=3, dim_u=dim_u, pose_std=1.0)
            model.decoder.pose.bias.data.normal_()
            theta, u = torch.randn(6), torch.randn(dim_u)
            W, b = model.decoder.pose.weight.detach().double(), model.decoder.pose.bias.detach()
            nearest = u + torch.linalg.pinv(W) @ (theta - b - (W @ u.double()))
            (found,) = javascript(["uOf", "model", f32(theta), f32(u)], model=model)
            close(found, nearest, 1e-4)


@pytest.mark.parametrize("warp", ["affine", "tps"])
@pytest.mark.parametrize("size", [(28, 28), (20, 60)])
def test_a_dragged_handle_ends_where_it_was_dragged(warp, size):
    with seeded(1):
        theta, targets = (
            0.2 * torch.randn(6 if warp == "affine" else 18),
            torch.randn(9, 2).double(),
        )
    points = warps.control_points(3)
    fields, *moved = javascript(
        ["fields", warp, size, 3, points.flatten().tolist()],
        *(
            ["dragged", {"warp": warp, "size": size}, theta.tolist(), i, xy.tolist()]
            for i, xy in enumerate(targets)
        ),
    )
    before, *afters = (
        points + (torch.tensor(t).double() @ torch.tensor(fields).double()).view(9, 2)
        for t in (theta.tolist(), *moved)
    )
    for handle, after in enumerate(afters):
        torch.testing.assert_close(after[handle], targets[handle], rtol=0, atol=1e-5)
        if warp == "tps":
            held = [i for i in range(9) if i != handle]
            torch.testing.assert_close(after[held], before[held])
            continue
        if handle != 4:  # the centre stays
            torch.testing.assert_close(after[4], before[4])
        if handle in (0, 2, 6, 8):  # the corners turn and scale, which keeps angles
            side = torch.tensor([size[1], size[0]])
            cosines = [
                F.cosine_similarity((grid[5] - grid[4]) * side, (grid[7] - grid[4]) * side, dim=0)
                for grid in (before, after)
            ]
            torch.testing.assert_close(*cosines, rtol=0, atol=1e-5)


def test_bounds_of_log_weights():
    with seeded(5):
        log_w = 8 * torch.randn(60, dtype=torch.float64) - 100
    answers = javascript(
        ["estimate", log_w.tolist()],
        *(["boundOf", log_w.tolist(), k] for k in (1, 7, 60)),
    )
    close([answers[0]["logP"]], bounds.iwae(log_w), 1e-9)
    w = torch.softmax(log_w, 0)
    assert answers[0]["ess"] == pytest.approx(1 / w.square().sum().item())
    assert answers[0]["se"] == pytest.approx((w.square().sum() - 1 / 60).sqrt().item())
    for answer, k in zip(answers[1:], (1, 7, 60), strict=True):
        groups = log_w[: 60 // k * k].view(-1, k).T
        values = bounds.iwae(groups)
        close([answer["mean"]], values.mean(), 1e-9)
        if k < 60:
            assert answer["se"] == pytest.approx((values.std() / math.sqrt(len(values))).item())
        else:
            assert answer["se"] is None


@pytest.mark.parametrize("name", ["plain-iwae5", "affine-iwae5", export.STRAIGHTENED])
def test_the_estimate_of_log_p_agrees_with_python(name):
    """Both use 3,000 draws and agree within their Monte-Carlo errors."""
    model, _ = tvae_core.load_pretrained(name)
    image = data.binarize_fixed(export.some_digits())[1:2]
    with seeded(6):
        there = evaluation.nll(model.cpu(), image, 3_000)
    calls = [["draws", "model", f32(image.x), 3_000, seed] for seed in (1, 2)]
    here = [torch.tensor(log_w).double() for log_w in javascript(*calls, model=model)]
    for log_w in here:
        w = torch.softmax(log_w, 0)
        se = (w.square().sum() - 1 / 3_000).sqrt() + there.se.double()
        assert (bounds.iwae(log_w) + there.nll).abs() < 4 * se
    with seeded(7), torch.no_grad():
        pythons = model.particles(image.x, 3_000).log_w[:, 0].double()
    for log_w in here:  # their whole distribution too, by a Kolmogorov-Smirnov test
        both = torch.cat([log_w, pythons]).sort().values
        shares = [
            torch.searchsorted(x.sort().values, both, right=True) / 3_000 for x in (log_w, pythons)
        ]
        assert (shares[0] - shares[1]).abs().max() < 1.95 * math.sqrt(2 / 3_000)


def test_normal_draws_are_normal():
    (draws,) = javascript(["someNormals", 9, 40_001])
    draws = torch.tensor(draws).double()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        se = (draws**power).std() / math.sqrt(len(draws))
        assert ((draws**power).mean() - moment).abs() < 4.5 * se
    assert (draws[1:] * draws[:-1]).mean().abs() < 4.5 / math.sqrt(len(draws))


def centre_of_mass(x):
    rows, columns = torch.meshgrid(
        torch.arange(28.0) + 0.5, torch.arange(28.0) + 0.5, indexing="ij"
    )
    return torch.stack([(x * rows).sum(), (x * columns).sum()]) / x.sum()


def test_a_drawing_is_centred_and_scaled_as_mnist_was():
    """A digit that was enlarged and put into a corner of a large sheet comes back as it was."""
    mini = data.load("mini", "test").x[:, 0]
    centres = torch.stack([centre_of_mass(x) for x in mini])
    assert (centres.mean(0) - 14.5).abs().max() < 0.05  # MNIST's own centre
    digit = mini[(centres - 14.5).abs().amax(1).argmin()]  # MNIST shifted digits by whole pixels
    sheet = torch.zeros(280, 300)
    sheet[3 : 3 + 224, 51 : 51 + 224] = digit.repeat_interleave(8, 0).repeat_interleave(8, 1)
    (found, empty) = javascript(
        ["centred", f32(sheet), [280, 300], [28, 28]],
        ["centred", f32(torch.zeros(280, 300)), [280, 300], [28, 28]],
    )
    assert empty is None
    found = torch.tensor(found).view(28, 28)
    assert (centre_of_mass(found) - 14.5).abs().max() < 0.01
    assert (found - digit).abs().mean() < 0.005
    # A bar of 90 x 30 becomes 20 pixels long and 20/3 wide, and keeps its ink.
    bar = torch.zeros(200, 200)
    bar[20:110, 150:180] = 1
    (found,) = javascript(["centred", f32(bar), [200, 200], [28, 28]])
    found = torch.tensor(found).view(28, 28)
    assert found.sum(0).max().item() == pytest.approx(20, abs=1e-3)
    assert found.sum(1).max().item() == pytest.approx(20 / 3, abs=1e-3)
    assert found.max().item() <= 1
