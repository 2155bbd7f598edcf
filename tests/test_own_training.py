"""Training on own images: the pose comes first, the best epoch is kept, and mistakes have names."""

import pytest
import torch
from torch import nn

from tvae_core import data, evaluation, models, moved, training
from tvae_core.estimators import analytic_kl
from tvae_core.moved import Moves
from tvae_core.own import training as own
from tvae_core.runtime import seeded

SIZE = (10, 12)


def pictures(n: int = 40) -> data.Images:
    """Bars that are turned and shifted."""
    bar = torch.zeros(n, 1, *SIZE)
    bar[:, :, 2:8, 5:7] = 1
    return moved.moved(data.from_tensor(bar), Moves(degrees=40, shift=1))


def small(**options) -> own.Trained:
    return own.train(pictures(), epochs=4, dim_z=2, hidden=8, **options)


def particles_of(model: models.VAE):
    with seeded(1):
        return model.particles(pictures(5).x, 3)


def test_with_the_whole_kl_weight_it_is_the_elbo_and_before_z_is_dear_and_u_cheap():
    model = own.new_model("similarity", SIZE, 2, 8)
    particles = particles_of(model)
    elbo = analytic_kl(particles)
    estimate = own.pose_first(model, strict=3)
    torch.testing.assert_close(estimate(particles), elbo)
    kl_z, kl_u = (kl.sum(-1) for kl in model.split(particles.kl))
    torch.testing.assert_close(estimate(particles, 0.25), elbo - 3 * 0.75 * kl_z + 0.75 * kl_u)
    assert kl_z.min() > 0
    plain = own.pose_first(model, strict=-1)(particles, 0.25)
    torch.testing.assert_close(plain, analytic_kl(particles, 0.25))


def test_it_trains_as_strictly_as_asked(tmp_path):
    usual, lax, strict = small(), small(strict=0.0), small(strict=own.STRICT, folder=tmp_path)
    assert usual.best == strict.best != lax.best
    with pytest.raises(ValueError, match="belongs to another run"):
        small(strict=0.0, folder=tmp_path)


def test_a_folder_belongs_to_the_images_and_options_of_its_run(tmp_path):
    small(folder=tmp_path)
    again = {"epochs": 4, "dim_z": 2, "hidden": 8, "folder": tmp_path}
    with pytest.raises(ValueError, match="another run: images was"):
        own.train(pictures(25), **again)
    for name, other in {"seed": 1, "warp": "affine", "body": "conv"}.items():
        with pytest.raises(ValueError, match=f"another run: {name} was .* is {other} now"):
            own.train(pictures(), **again, **{name: other})


def test_a_new_model_has_a_pose_latent_for_each_parameter_of_its_warp(subtests):
    for warp, dim_u in {"translation": 2, "rotation": 1, "similarity": 4, "tps": 18}.items():
        with subtests.test(warp):
            model = own.new_model(warp, SIZE, 2, 8)
            assert (model.size, model.dim_z, model.dim_u) == (SIZE, 2, dim_u)
            assert model.encoder.look == "straight-mean"
            assert model.decoder.resample == "logits"
    with pytest.raises(ValueError, match="unknown warp 'identity'; known: translation, rotation"):
        own.new_model("identity", SIZE)
    one, other = (own.new_model("affine", SIZE, seed=seed).state_dict() for seed in (0, 1))
    assert not one["decoder.pose.weight"].equal(other["decoder.pose.weight"])


def test_few_images_are_shown_more_often():
    assert [own.epochs_for(n) for n in (20, 2_000, 50_000)] == [600, 120, 12]


def test_it_keeps_the_best_epoch_of_those_that_train_for_the_elbo():
    trained = small()
    assert [row["epoch"] for row in trained.history] == [1, 2, 3, 4]
    assert [row["eligible"] for row in trained.history] == [False, False, True, True]
    held = own.hold_out(pictures(), 4)[1]
    assert len(held) == 4
    with seeded(0):
        elbo = -evaluation.elbo_terms(trained.model, held, draws=2).negative_elbo.mean().item()
    assert elbo == pytest.approx(trained.best)
    assert trained.best == max(row["held_out"] for row in trained.history[2:])


def test_it_stops_after_a_quarter_of_the_epochs_without_a_better_one(monkeypatch, capsys):
    values = iter([9.0, 1, 2, 3, 2, 2, 2, 2, 2, 2, 2])
    monkeypatch.setattr(own, "_elbo", lambda model, images: next(values))
    model, history = own.new_model("affine", SIZE, 2, 8), []
    watch = own._Watch(model, pictures(), 6, None)
    for epoch in range(1, 11):
        history.append({"epoch": epoch, "seconds": 30.0})
        watch(history)
        if epoch == 4:
            best = watch.best_weights()
            nn.init.zeros_(model.decoder.pose.weight)
    # Epoch 4 is the best eligible one; 5 more are always waited for.
    assert [row["epoch"] for row in history if row["stop"]] == [10]
    assert best["decoder.pose.weight"].equal(watch.best_weights()["decoder.pose.weight"])
    assert best["decoder.pose.weight"].any()
    printed = capsys.readouterr().out
    assert "held-out ELBO     9.00, 2 min left" in printed
    assert "stopped early" in printed


def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = small()

    class Killed(own._Watch):
        def __call__(self, history):
            super().__call__(history)
            if len(history) == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(own, "_Watch", Killed)
        with pytest.raises(KeyboardInterrupt):
            small(folder=tmp_path)
    again = small(folder=tmp_path)
    assert again.best == whole.best
    for name, value in whole.model.state_dict().items():
        assert value.equal(again.model.state_dict()[name])
    with pytest.raises(ValueError, match=r"belongs to another run \(epochs was 4, and is 5 now\)"):
        own.train(pictures(), epochs=5, dim_z=2, hidden=8, folder=tmp_path)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match=r"at least 20 images to learn from, .*got 19"):
        own.train(pictures(19))


def test_nan_has_a_name_and_says_what_to_change():
    with pytest.raises(training.NonFiniteLossError, match=r"^nan: .* in epoch .* Halve --rate"):
        small(rate=1e38)


# What goes wrong: models in which it did.


def names(model: models.VAE) -> list[str]:
    return [problem.name for problem in own.problems(model, *own.hold_out(pictures(), 4))]


@pytest.fixture
def good(monkeypatch) -> models.VAE:
    """A model of which nothing is wrong: its grids are those of an untrained one, and its numbers
    are put in its place."""
    model = own.new_model("similarity", SIZE, 2, 8)
    nn.init.normal_(model.decoder.pose.weight, std=0.01)
    terms = evaluation.Terms(torch.tensor([10.0]), torch.tensor([2.0]), torch.tensor([3.0]))
    model.terms = model.known = terms
    monkeypatch.setattr(
        evaluation,
        "elbo_terms",
        lambda model, images, draws: model.terms if len(images) == 4 else model.known,
    )
    drawn = pictures().x
    monkeypatch.setattr(
        model.decoder, "forward", lambda latents: type("P", (), {"mean": drawn[: len(latents)]})
    )
    monkeypatch.setattr(own, "hold_out", lambda images, n: (images[:36], images[36:]))
    return model


def test_a_good_model_has_no_problem(good):
    assert names(good) == []


def test_each_problem_is_found(good, subtests, monkeypatch):
    terms = good.terms
    for name, change in {
        "dead warp": {"kl_u": 0.0},
        "collapse": {"kl_z": 0.0},
        "not learning": {"recon": 1e4},
    }.items():
        with subtests.test(name):
            good.terms = terms._replace(**{k: torch.tensor([v]) for k, v in change.items()})
            assert names(good) == [name]
    good.terms = terms
    with subtests.test("memorising"):
        new = -terms.negative_elbo.item()
        mean = own._mean_image_bound(good, *own.hold_out(pictures(), 4))
        assert mean < new
        for lacks, found in {0.24: [], 0.26: ["memorising"]}.items():
            known = (new - lacks * mean) / (1 - lacks)  # so that known - new is this share
            good.known = terms._replace(recon=terms.recon + new - known)
            assert names(good) == found
        good.known = terms
    with subtests.test("shrinking"), torch.no_grad():
        good.decoder.pose.bias[0] = 3.0
        assert names(good) == ["shrinking"]
        good.decoder.pose.bias[0] = 0.0
    with subtests.test("folding"), monkeypatch.context() as patch:
        patch.setattr(own, "_grids", lambda model, latents: (0.02, 1.0))
        assert names(good) == ["folding"]
    blank = torch.zeros(36, 1, *SIZE)
    monkeypatch.setattr(
        good.decoder, "forward", lambda latents: type("P", (), {"mean": blank[: len(latents)]})
    )
    with subtests.test("blurry"):
        assert names(good) == ["blurry"]


def test_mirrored_grids_fold():
    model = own.new_model("affine", SIZE, 2, 8)
    with torch.no_grad():
        model.decoder.pose.weight.zero_()
        model.decoder.pose.bias.copy_(torch.tensor([-2.0, 0, 0, 0, 0, 0]))
        share, side = own._grids(model, torch.zeros(3, 8))
        assert (share, side) == (1.0, pytest.approx(1, abs=1e-5))
        model.decoder.pose.bias.zero_()
        assert own._grids(model, torch.zeros(3, 8)) == (0.0, pytest.approx(1, abs=1e-5))


def test_a_grid_that_is_turned_by_a_quarter_does_not_fold():
    model = own.new_model("similarity", SIZE, 2, 8)
    with torch.no_grad():
        model.decoder.pose.weight.zero_()
        model.decoder.pose.bias.copy_(torch.tensor([-1.0, 1, 0, 0]))
    with torch.no_grad():
        assert own._grids(model, torch.zeros(3, 6)) == (0.0, pytest.approx(1, abs=1e-5))


def test_every_problem_says_what_to_change():
    problem = own.Problem("folding", "grids fold", own.CHANGES["folding"])
    assert str(problem) == "folding: grids fold. Choose a warp that cannot fold: --warp similarity."


def test_the_forecast_is_the_time_of_a_few_batches_for_all_images_and_epochs(monkeypatch, capsys):
    monkeypatch.setattr(training, "fit", lambda *_, **__: [{"seconds": 9.0}, {"seconds": 2.0}])
    images = pictures(1_000)
    # 500 images in 2 s; 900 to train on, 10 times.
    assert own.seconds_for(images, epochs=10) == pytest.approx(36)
    assert own.seconds_for(images) == pytest.approx(3.6 * own.epochs_for(900))
