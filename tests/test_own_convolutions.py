"""Convolutions: their shapes for any image, what they learn, and how far a pixel reaches."""

import pytest
import torch

from tvae_core import data, models, moved
from tvae_core.moved import Moves
from tvae_core.own import convolutions, training
from tvae_core.runtime import seeded


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 128, 40), (1, 17, 30), (1, 4, 5)])
def test_any_height_and_width_and_colour(shape):
    model = training.new_model("similarity", shape, 2, 8, body="conv")
    assert isinstance(model.encoder.body[0], convolutions.Look)  # for u
    assert isinstance(model.encoder.read, convolutions.Look)  # for z
    with torch.no_grad():
        x = torch.rand(3, *shape)
        particles = model.particles(x, 2)
        assert particles.log_lik.shape == (2, 3)
        assert model.decoder(particles.latents).mean.shape == (2, 3, *shape)
        assert model.canonical(particles.latents[0, 0]).shape == shape


def test_each_image_and_each_draw_alone_gives_the_same():
    with seeded(0):
        look, draw = convolutions.Look((1, 17, 30), 5), convolutions.Draw(5, (1, 17, 30))
        x, h = torch.rand(2, 3, 17 * 30), torch.rand(2, 3, 5)
    with torch.no_grad():
        for layer, inputs in ((look, x), (draw, h)):
            torch.testing.assert_close(
                layer(inputs)[1, 2], layer(inputs[1, 2]), rtol=1e-4, atol=1e-5
            )


def test_a_decoder_with_convolutions_starts_at_the_mean_image():
    model = training.new_model("similarity", (3, 17, 30), 2, 8, body="conv")
    mean = torch.rand(3, 17, 30)
    models.start_at_mean(model, mean, floor=0.01)
    with torch.no_grad():
        model.decoder.canonical.logits.first.weight.zero_()
        model.decoder.canonical.logits.first.bias.zero_()
        for layer in model.decoder.canonical.logits.layers:
            if getattr(layer, "bias", None) is not None:
                layer.bias.zero_()
        shown = model.decoder.canonical(torch.zeros(2)).mean
    torch.testing.assert_close(shown, 0.01 + 0.98 * mean)


def test_a_pixel_reaches_only_its_neighbourhood():
    """Of the first layers; the linear one behind them sees the whole image."""
    look = convolutions.Look((1, 64, 64), 4)
    x = torch.rand(64 * 64).requires_grad_()
    features = look.layers[:-2](x.view(1, 1, 64, 64))
    assert features.shape == (1, 64, 8, 8)
    features[0, :, 4, 4].sum().backward()
    rows, columns = x.grad.view(64, 64).nonzero().unbind(1)
    assert rows.max() - rows.min() <= 14
    assert (rows.min() + rows.max()) // 2 == (columns.min() + columns.max()) // 2 == 32


def test_all_layers_learn(tmp_path):
    images = moved.glyphs(24, Moves(degrees=30, shift=2), (24, 20), height=10)
    start = training.new_model("similarity", (1, 24, 20), 2, 8, body="conv").state_dict()
    trained = training.train(images, epochs=1, dim_z=2, hidden=8, body="conv", folder=tmp_path)
    after = trained.model.state_dict()
    assert [name for name in start if start[name].equal(after[name])] == []
    with pytest.raises(ValueError, match="belongs to another run"):
        training.train(data.Images(images.pixels, None, "a"), epochs=1, folder=tmp_path)


def test_an_unknown_body_is_refused():
    with pytest.raises(ValueError, match="unknown body 'attention'; known: mlp, conv"):
        training.new_model("similarity", (64, 64), body="attention")
