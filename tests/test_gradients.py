"""Laws of the gradients' signal and noise: compared with a plain computation, and where the answer
is known."""

import math
from functools import partial

import pytest
import torch

from tvae_core import bounds, gradients, models, own
from tvae_core.estimators import doubly_reparameterized, reparameterized, stl
from tvae_core.runtime import seeded

iwae = reparameterized(bounds.iwae)


def tiny(name: str = "affine", **options) -> models.VAE:
    with seeded(0):
        return models.build(name, (4, 6), dim_z=3, hidden=(8,), **options)


def some_images(n: int = 4) -> torch.Tensor:
    with seeded(1):
        return torch.rand(n, 1, 4, 6).bernoulli()


def test_streamed_statistics_equal_those_of_all_gradients_at_once():
    model, x, repeats = tiny(), some_images(), 40
    with seeded(2):
        measured = gradients.gradient_snr(model, x, iwae, 5, repeats)
    with seeded(2):
        rows = []
        for _ in range(repeats):
            model.zero_grad()
            iwae(model.particles(x, 5)).mean().backward()
            rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]).double())
    every = torch.stack(rows)
    for name, members in gradients.blocks(model).items():
        mean, variance = every[:, members].mean(0), every[:, members].var(0)
        noisy = variance > 0
        ratio = (mean.abs() / variance.sqrt())[noisy]
        got = measured[name]
        assert got.n == noisy.sum()
        assert got.mean == pytest.approx(ratio.mean().item())
        assert got.median == pytest.approx(ratio.median().item())
        noise = variance.sum().item()
        assert got.noise == pytest.approx(noise)
        signal = mean[noisy].square().sum().item() - noise / repeats
        assert got.signal == pytest.approx(signal)
        assert got.whole == pytest.approx(math.sqrt(max(signal, 0) / noise))
        assert got.floor == pytest.approx(math.sqrt(2 / math.pi / 40))


def test_parameters_that_are_not_trained_have_no_gradient():
    model, x = tiny(), some_images()
    for parameter in model.decoder.parameters():
        parameter.requires_grad = False
    found = gradients.gradient_snr(model, x, iwae, 2, 3)
    assert found["encoder"].n > found["decoder"].n == 0


def test_a_block_holds_the_parameters_its_name_says():
    model, x = tiny(dim_u=2), some_images()
    blocks = gradients.blocks(model)

    def touched(value: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(
            value,
            model.parameters(),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([part.flatten() for part in parts]) != 0

    q = model.posterior(x)
    z, u = model.split(q.mean + q.stddev)
    z, u = touched(z.sum()), touched(u.sum())
    heads = blocks["encoder z"] | blocks["encoder u"]
    assert not (z & blocks["encoder u"]).any()
    assert not (u & blocks["encoder z"]).any()
    assert (z & blocks["encoder z"]).any()
    assert (u & blocks["encoder u"]).any()
    assert not (z & blocks["decoder"]).any()
    # Both heads: the last layers, with biases, of 3 + 2 means and as many deviations.
    assert heads.sum() == 2 * (3 + 2) * (8 + 1)
    assert blocks["encoder u"].sum() == 2 * 2 * (8 + 1)
    assert not (blocks["encoder z"] & blocks["encoder u"]).any()
    assert not (blocks["encoder"] & blocks["decoder"]).any()
    assert (blocks["encoder"] | blocks["decoder"]).all()
    assert (heads <= blocks["encoder"]).all()
    sizes = [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)]
    assert [blocks["encoder"].sum(), blocks["decoder"].sum()] == sizes


def test_a_plain_model_has_no_block_for_u():
    assert set(gradients.blocks(tiny("plain"))) == {"encoder", "encoder z", "decoder"}


def test_without_a_signal_the_ratio_is_at_its_floor():
    """A decoder that ignores its latents, and q = prior: the encoder's gradient is pure noise."""
    model, x = tiny("plain"), some_images()
    with torch.no_grad():
        model.decoder.body[0].weight.zero_()
        for layer in (model.encoder.mu_z, model.encoder.log_sigma):
            layer.weight.zero_()
            layer.bias.zero_()
    with seeded(3):
        heads = gradients.gradient_snr(model, x, iwae, 5, 200)["encoder z"]
    assert heads.mean == pytest.approx(heads.floor, rel=0.5)
    assert heads.whole < 0.1
    # The doubly reparameterized gradient has neither signal nor noise here, up to rounding.
    with seeded(3):
        quiet = gradients.gradient_snr(model, x, doubly_reparameterized(bounds.iwae), 5, 20)
    assert quiet["encoder z"].noise < 1e-9 * heads.noise


def test_as_k_grows_the_encoder_loses_signal_and_the_decoder_gains_signal():
    """As Rainforth et al. (2018) found. Doubly reparameterized, the encoder loses none."""
    with seeded(0):
        model = models.build("plain", (4, 6), dim_z=3, hidden=(8,))
    x = some_images()

    def measured(estimator, k):
        with seeded(4):
            return gradients.gradient_snr(model, x, estimator, k, 200)

    few, many = measured(iwae, 1), measured(iwae, 32)
    assert many["encoder z"].whole < few["encoder z"].whole / 1.5
    assert many["decoder"].whole > few["decoder"].whole * 1.5
    dreg = doubly_reparameterized(bounds.iwae)
    few, many = measured(dreg, 1), measured(dreg, 32)
    assert many["encoder z"].whole > few["encoder z"].whole


def test_the_gradient_of_a_larger_batch_has_less_noise():
    model, one = tiny("plain"), some_images(1)
    with seeded(5):
        small = gradients.gradient_snr(model, one, iwae, 2, 300)
        large = gradients.gradient_snr(model, one.expand(9, -1, -1, -1), iwae, 2, 300)
    for name in small:
        assert small[name].noise / large[name].noise == pytest.approx(9, rel=0.3)


def test_every_estimator_can_be_measured_and_one_repeat_is_refused():
    model, x = tiny(), some_images()
    for estimator in (
        stl,
        doubly_reparameterized(partial(bounds.miwae, m=2)),
        reparameterized(partial(bounds.ciwae, beta=0.5)),
    ):
        assert gradients.gradient_snr(model, x, estimator, 4, 2)["encoder u"].n > 0
    with pytest.raises(ValueError, match="repeats must be a whole number of at least 2"):
        gradients.gradient_snr(model, x, iwae, 4, 1)


def test_a_parameter_without_axes_belongs_to_its_block():
    model = own.training.new_model("similarity", (8, 8), 2, 4, likelihood="normal")
    masks = gradients.blocks(model)
    n = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert {len(mask) for mask in masks.values()} == {n}
    assert (masks["encoder"] | masks["decoder"]).all()
