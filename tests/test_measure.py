"""Laws of the measuring command: a record grows part by part, resumes where it stopped, and never
mixes different measurements."""

import json
import re

import pytest
import torch

from tvae_core import ais, data, diagnostics, evaluation, load_pretrained
from tvae_core.experiments import kinds, measure, results
from tvae_core.experiments.kinds import KINDS, Options
from tvae_core.experiments.measure import columns
from tvae_core.experiments.runner import spread
from tvae_core.runtime import seeded

TINY = Options(
    images=4, block=2, draws=40, distributions=3, chains=2, leapfrog=1, repeats=2, steps=2, rows=100
)
MODEL = "affine-iwae5"


@pytest.fixture(scope="module")
def images() -> data.Images:
    return spread(data.load("mini", "test"), 4)


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setattr(kinds, "SNR_KS", (1, 8))
    monkeypatch.setattr(kinds, "IS_SAMPLES", 30)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_is_complete_and_lists_what_it_depends_on(kind, images, tmp_path):
    record = measure.measure(kind, MODEL, images, TINY, tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == f"{kind}-{MODEL}.json"
    assert json.loads(path.read_bytes()) == record
    assert set(record["options"]) == set(KINDS[kind].options)
    assert record["data"]["n"] == 4
    assert record["seconds"] > 0
    assert "binarized" in record["data"]["name"] or kind == "pixels"
    assert f"{kind}, {MODEL}, 4 images" in measure.summary(record)
    if KINDS[kind].parts is kinds.image_blocks:
        assert len(record["parts"]) == 2
        assert all(values.shape[-1] == 4 for values in columns(record).values())


def test_the_start_is_measured_on_the_untrained_model(images, tmp_path, monkeypatch):
    seen = {}

    def recorded(model, x, estimator, k, repeats):
        seen[k] = model
        return {}

    monkeypatch.setattr(kinds.gradients, "gradient_snr", recorded)
    for kind in ("snr", "start"):
        record = measure.measure(kind, MODEL, images, TINY, tmp_path)
        model = seen.pop(8)
        assert record["weights"] == measure._weights_hash(model)
        shipped = load_pretrained(MODEL).model
        assert (record["weights"] == measure._weights_hash(shipped)) == (kind == "snr")
        assert model.encoder.mu_z.weight.shape == shipped.encoder.mu_z.weight.shape
    assert measure.measure("start", MODEL, images, TINY, tmp_path / "again") == {
        **record,
        "seconds": pytest.approx(record["seconds"], abs=60),
    }


@pytest.mark.parametrize("kind", ["nll", "ais", "snr"])
def test_an_interrupted_measurement_resumes_to_the_same_record(kind, images, tmp_path, monkeypatch):
    whole = measure.measure(kind, MODEL, images, TINY, tmp_path / "whole")
    write, written = measure.write_atomically, []

    def stop_after_the_first(path, content):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(measure, "write_atomically", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        measure.measure(kind, MODEL, images, TINY, tmp_path)
    monkeypatch.setattr(measure, "write_atomically", write)
    begun = json.loads((tmp_path / f"{kind}-{MODEL}.json").read_bytes())
    assert len(begun["parts"]) == 1
    resumed = measure.measure(kind, MODEL, images, TINY, tmp_path)
    assert resumed["parts"] == whole["parts"]
    assert resumed["seconds"] > begun["seconds"]


def test_a_finished_record_is_not_measured_again(images, tmp_path, monkeypatch):
    record = measure.measure("nll", MODEL, images, TINY, tmp_path)
    monkeypatch.setattr(measure, "fingerprint", lambda kind: record["fingerprint"])
    monkeypatch.setattr(diagnostics, "nll_curve", None)
    assert measure.measure("nll", MODEL, images, TINY, tmp_path) == record


@pytest.mark.parametrize("what", ["options", "data", "weights", "fingerprint"])
def test_a_record_with_other_settings_is_refused_and_kept(what, images, tmp_path):
    measure.measure("units", MODEL, images, TINY, tmp_path)
    path = tmp_path / f"units-{MODEL}.json"
    other = {**json.loads(path.read_bytes()), what: "other"}
    path.write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(ValueError, match=f"measured with other {what}; delete it, or choose"):
        measure.measure("units", MODEL, images, TINY, tmp_path)
    assert json.loads(path.read_bytes()) == other


def test_a_damaged_record_is_refused_and_the_message_names_the_file(subtests, images, tmp_path):
    path = tmp_path / f"units-{MODEL}.json"
    for text in ("", "{", "[]", "{}", '{"kind": "units"}', "\x00"):
        with subtests.test(text=text):
            path.write_text(text, encoding="utf-8")
            with pytest.raises(ValueError, match=f"units-{MODEL}.json is not a complete record"):
                measure.measure("units", MODEL, images, TINY, tmp_path)


@pytest.mark.parametrize("kind", ["units", "snr", "start"])
def test_a_record_without_columns_says_which_have_them(kind):
    with pytest.raises(ValueError, match=f"of '{kind}' has no values .* nll, .*ais, .*pixels have"):
        columns({"kind": kind, "parts": [{"dim_z": 3}]})


def test_the_columns_of_a_record_agree_with_a_recomputation(images, tmp_path):
    record = measure.measure("nll", MODEL, images, TINY, tmp_path)
    model, binary = load_pretrained(MODEL).model, data.binarize_fixed(images)
    curves = []
    for index, part in enumerate((slice(0, 2), slice(2, 4))):
        with seeded(index):
            curves.append(diagnostics.nll_curve(model, binary[part], (1, 2, 5, 10, 20), 100))
    got = columns(record)
    for name in ("nll", "jackknife", "delta", "ess", "dominated"):
        expected = torch.cat([getattr(curve, name) for curve in curves], -1)
        torch.testing.assert_close(got[name], expected, rtol=0, atol=1e-5, equal_nan=True)
    assert got["jackknife"][0].isnan().all()


def test_ais_and_importance_sampling_agree_on_the_same_images(images, tmp_path):
    options = Options(4, 4, 20, 100, 8, 5, "q", rows=100)
    got = columns(measure.measure("ais", MODEL, images, options, tmp_path))
    model, binary = load_pretrained(MODEL).model, data.binarize_fixed(images)
    with seeded(0):
        nll = evaluation.nll(model, binary, 500).nll
    assert (got["ais_nll"] - nll).abs().max() < 8
    assert ((got["is_nll"] - nll) > -8).all()
    assert got["ais_nll"].mean() < got["is_nll"].mean()  # 20 draws are too few


def test_reach_is_the_distance_of_the_farthest_latent_in_deviations_of_q(images, tmp_path):
    got = columns(measure.measure("bdmc", MODEL, images, TINY, tmp_path))["reach"]
    model = load_pretrained(MODEL).model
    with seeded(1):  # the second part
        x, latents = ais.simulate(model, 2)
    q = model.posterior(x)
    for image, expected in enumerate(got[2:]):
        distances = (latents[image] - q.mean[image]).abs() / q.stddev[image]
        assert max(distances.tolist()) == pytest.approx(expected.item(), abs=1e-4)


def test_a_run_whose_weights_do_not_ship_is_trained_first(images, tmp_path, monkeypatch):
    """Or loaded, if it has been trained before."""
    monkeypatch.setenv("TVAE_PROFILE", "smoke")
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path / "runs"))
    name = "plain-vae-modern"
    assert name not in results.shipped()
    record = measure.measure("ais", name, images, TINY, tmp_path)
    (weights,) = tmp_path.glob("runs/plain-vae-modern-smoke-seed0-*/weights.safetensors")
    model = results.load_weights(weights, results.record_of(name).config)
    assert record["weights"] == measure._weights_hash(model)


def test_shipped_measurements_were_made_with_the_shipped_weights(subtests):
    for path in sorted(results.MEASURED.glob("*.json")):
        with subtests.test(path.stem):
            record = json.loads(path.read_bytes())
            kind, model = record["kind"], record["model"]
            assert path.stem == f"{kind}-{model}"
            assert results.measured(kind, model) == record
            if model in results.shipped():
                pretrained = measure.measured_model(kind, load_pretrained(model))
                assert record["weights"] == measure._weights_hash(pretrained), "measure again"
            else:
                assert model in results.recorded()


def test_asking_for_a_measurement_that_was_never_made_is_refused():
    with pytest.raises(ValueError, match="unknown measurement 'nll-no-model'; known: "):
        results.measured("nll", "no-model")


def test_the_pixels_measurement_scores_gray_and_binary_pixels_and_the_density(images, tmp_path):
    got = columns(measure.measure("pixels", "plain-vae", images, TINY, tmp_path))
    assert (got["gray"] > got["entropy"]).all()  # the floor
    assert (got["density"] < got["gray"] - 784 * 0.69).all()
    assert (got["fixed"] != got["redrawn"]).all()
    assert (got["entropy"] > 5).all()


@pytest.mark.parametrize(
    "arguments", [["unknown"], ["nll", "--images", "0"], ["nll", "--models", "none"], []]
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        measure.main(arguments)
    assert "error" in capsys.readouterr().err


def test_each_kind_has_defaults_that_arguments_override(monkeypatch, tmp_path):
    asked = []

    def recorded(kind, name, images, options, folder):
        asked.append((kind, name, len(images), options))
        return {}

    monkeypatch.setattr(measure, "measure", recorded)
    monkeypatch.setattr(measure, "summary", str)
    loaded = []

    def load(name, split):
        loaded.append((name, split))
        return data._load_bundled("mini", "test")

    monkeypatch.setattr(measure.data, "load", load)
    for kind in KINDS:
        measure.main([kind, "--models", MODEL, "--chains", "3", "--start", "prior"])
    measure.main(["nll", "--images", "7", "--draws", "9"])
    assert loaded[:-1] == [("mnist", "train" if "train" in kind else "test") for kind in KINDS]
    assert [options.chains for _, _, _, options in asked[: len(KINDS)]] == [3] * len(KINDS)
    assert {kind: options.images for kind, _, _, options in asked[: len(KINDS)]} == {
        **{"nll": 500, "ais": 100, "bdmc": 100, "units": 10_000, "pixels": 500},
        **{"on-test": 1_000, "on-train": 1_000, "mixture": 500, "coupling": 50},
        **{"snr": 20, "start": 20},
    }
    assert [name for _, name, _, _ in asked[len(KINDS) :]] == KINDS["nll"].models
    assert asked[-1][2:] == (7, Options(images=7, draws=9))
    assert asked[0][3].start == "prior"


def test_a_command_without_its_images_or_for_another_record_ends_in_a_sentence(
    monkeypatch, tmp_path, capsys
):
    def no_network(name, split):
        raise ConnectionError(f"could not download {name!r}")

    command = ["units", "--models", MODEL, "--folder", str(tmp_path)]
    monkeypatch.setattr(measure.data, "load", no_network)
    with pytest.raises(SystemExit, match="error: could not download 'mnist'"):
        measure.main(command)
    assert not [*tmp_path.iterdir()]  # nothing of other images
    monkeypatch.setattr(measure.data, "load", lambda *_: data._load_bundled("mini", "test"))
    measure.main([*command, "--images", "5"])
    with pytest.raises(SystemExit, match="was measured with other data"):
        measure.main([*command, "--images", "6"])


def test_the_examples_in_the_help_can_be_given_as_they_are(monkeypatch, tmp_path, capsys):
    """In a folder without records, so that the book's are not in the way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure.data, "load", lambda *_: data._load_bundled("mini", "test"))
    few = ["--images", "1", "--draws", "2", "--distributions", "2"]
    examples = re.findall(r"python -m tvae_core\.measure (.*)", measure.__doc__)
    for example in examples:
        measure.main([*example.split(), *few])
    assert len(examples) == 2
    assert {path.parent.resolve() for path in tmp_path.rglob("*.json")} == {tmp_path / "mine"}
    assert len([*tmp_path.rglob("*.json")]) == 3


def test_the_command_measures_and_prints_a_summary(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measure.data, "load", lambda *_, **__: data._load_bundled("mini", "test"))
    folder = ["--folder", str(tmp_path)]
    measure.main(["units", "--models", "plain-iwae5", MODEL, "--images", "5", *folder])
    printed = capsys.readouterr().out
    assert "of 54 in z" in printed
    assert "of 6 in u" in printed
    assert "of 0 in u" in printed
    assert {path.name for path in tmp_path.iterdir()} == {
        f"units-{name}.json" for name in ("plain-iwae5", MODEL)
    }


def test_the_help_names_the_kinds_that_have_defaults_of_their_own(capsys):
    with pytest.raises(SystemExit):
        measure.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "annealing steps of AIS (default: 1000, 200 for coupling)" in text
    assert "draws from q per image (default: 50000, 200 for coupling, 5000 for pixels)" in text
