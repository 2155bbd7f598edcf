"""The explorer's widget, its JavaScript as one script, and its files for pages."""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch
import traitlets
from torch import nn

import tvae_core
from tvae_core import data, explorer, models, warps
from tvae_core.experiments.configs import RunName
from tvae_core.explorer import export, fallback
from tvae_core.explorer.joining import join
from tvae_core.own import training as own
from tvae_core.runtime import seeded


@pytest.fixture
def model():
    with seeded(0):
        return models.build("affine", dim_z=3, hidden=(16,))


@pytest.fixture
def live(monkeypatch):
    monkeypatch.setattr(explorer, "is_live", lambda: True)


def test_the_widget_starts_at_the_given_latents(model, live):
    latents = torch.linspace(-1, 1, 9)
    widget = explorer.explorer(model, latents=latents, view="pose")
    assert widget.z == pytest.approx(latents[:3].tolist())
    assert widget.u == pytest.approx(latents[3:].tolist())
    widget = explorer.explorer(model)
    mean = model.posterior(export.some_digits()[:1].x).mean[0]
    assert widget.z + widget.u == pytest.approx(mean.tolist())
    widget = explorer.explorer(model, binarized=True)
    mean = model.posterior(data.binarize_fixed(export.some_digits())[:1].x).mean[0]
    assert widget.z + widget.u == pytest.approx(mean.tolist())


def test_z_and_u_can_be_set_and_watched(model, live):
    widget = explorer.explorer(model)
    seen = []
    widget.observe(lambda change: seen.append(change.new), "u")
    widget.u = [0.5] * 6
    assert seen == [[0.5] * 6]
    with pytest.raises(traitlets.TraitError, match="u must have 6 numbers, got 5"):
        widget.u = [0.5] * 5
    assert widget.u == [0.5] * 6


def test_without_a_reader_it_prints_a_line_instead_of_the_widget(model, capsys):
    assert explorer.explorer(model) is None
    assert "live notebook" in capsys.readouterr().out


def test_the_widget_refuses_unknown_views_sizes_and_architectures(model):
    with pytest.raises(ValueError, match="unknown view 'front'; known: swap"):
        explorer.explorer(model, view="front")
    with pytest.raises(ValueError, match=r"images=\.\.\."):
        explorer.explorer(models.build("affine", size=(8, 12), dim_z=3, hidden=(16,)))
    model.encoder = nn.Identity()
    with pytest.raises(TypeError, match="got Identity"):
        explorer.explorer(model)


def test_an_encoder_that_straightens_by_another_warp_is_refused(model):
    other = models.build("affine", dim_z=3, hidden=(16,), look="straight")
    digits = export.some_digits(1)
    config, _ = export.describe(other, digits)
    assert config["look"] == "straight"
    assert config == export.describe(other, digits)[0]  # the KL of z is a mean over the same draws
    model.encoder = other.encoder
    with pytest.raises(TypeError, match="the model's own warp"):
        export.describe(model, digits)


def test_a_warp_is_recognized_by_its_basis(model):
    digits = export.some_digits(1)
    for name in ("translation", "rotation", "similarity", "affine", "tps"):
        config, _ = export.describe(models.build(name, dim_z=3, hidden=(16,)), digits)
        assert config["warp"] == name
    finer = warps.make_warp("tps", (28, 28), n=4)
    decoder = models.WarpedDecoder(models.Decoder((28, 28), 3, (16,)), finer, 2)
    encoder = models.Encoder((28, 28), 3, 2, (16,))
    config, _ = export.describe(models.VAE(encoder, decoder, (28, 28), 3, 2), digits)
    assert (config["warp"], config["points"]) == ("tps", 4)
    expected = own.new_model("similarity", (28, 28), 3, 16, turn=30.0)
    with pytest.raises(TypeError, match="another one"):  # of the same basis, with other parameters
        export.describe(expected, digits)
    decoder.warp.basis = 2 * decoder.warp.basis
    with pytest.raises(TypeError, match="another one"):
        export.describe(models.VAE(encoder, decoder, (28, 28), 3, 2), digits)


def test_what_a_page_cannot_compute_is_refused(subtests):
    digits = export.some_digits(1)
    colours = data.from_tensor(digits.x.expand(-1, 3, -1, -1))
    for options, images, words in (
        ({"body": "conv"}, digits, "gray images and linear layers only"),
        ({"size": (3, 28, 28)}, colours, "gray images and linear layers only"),
        ({"likelihood": "normal"}, digits, "Bernoulli pixels only"),
    ):
        model = own.new_model(**{"warp": "affine", "size": (28, 28), "hidden": 16, **options})
        with subtests.test(words), pytest.raises(TypeError, match=words):
            export.describe(model, images)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    export.write_page_files(folder)
    return folder


def test_a_model_weighs_little_compressed(files):
    """As a server sends it. That is what the explorer page's budget of 1.3 MB leaves room for."""
    for name in export.SHOWN:
        (script,) = files.glob(f"{name}.*.js")
        size = len(gzip.compress(script.read_bytes()))
        assert size < (900_000 if name == export.STRAIGHTENED else 640_000), (name, size)


def test_file_names_change_exactly_when_their_contents_do(files, tmp_path):
    (tmp_path / "affine-vae.00000000.js").write_text("from an earlier build", encoding="utf-8")
    export.write_page_files(tmp_path, ["affine-vae"])
    (script,) = tmp_path.glob("affine-vae.*.js")
    assert (files / script.name).read_bytes() == script.read_bytes()
    other = re.search(
        r'"affine-iwae5": "([^"]+)"', (files / "explorer.js").read_text(encoding="utf-8")
    )
    assert (files / other[1]).read_bytes() != script.read_bytes()


def test_a_model_script_holds_the_shipped_model(files):
    (script,) = files.glob("tps-iwae5.*.js")
    content = json.loads(script.read_text(encoding="utf-8").split(" = ", 1)[1].rstrip(";\n"))
    model, _ = tvae_core.load_pretrained("tps-iwae5")
    config, weights = export.describe(model, export.some_digits(), binarized=True)
    assert content == {**config, "packed": export.pack(config, weights)}


def test_uninformative_latents_are_marked(model):
    with torch.no_grad():
        model.encoder.mu_z.weight.zero_()
        model.encoder.mu_z.bias.copy_(torch.tensor([0.0, 0.4, 0.5]))  # KLs of 0, 0.08 and 0.125
        model.encoder.log_sigma.weight.zero_()
        model.encoder.log_sigma.bias.zero_()
    config, _ = export.describe(model, export.some_digits(1))
    assert config["mean_kl"][:3] == pytest.approx([0, 0.08, 0.125])
    assert config["informative"][:3] == [False, False, True]


def test_latents_are_sorted_by_their_kl_on_the_pixels_that_the_model_saw_in_training(model):
    digits = export.some_digits(1)
    for binarized, seen in ((False, digits), (True, data.binarize_fixed(digits))):
        config, _ = export.describe(model, digits, binarized)
        q = model.posterior(seen.x)
        kl = (q.mean.square() + q.stddev.square() - 1) / 2 - q.stddev.log()
        assert config["mean_kl"] == pytest.approx(kl.mean(0).tolist(), abs=6e-5)


def test_page_and_notebook_run_the_same_modules():
    page, widget = export.source(module=False), export.source(module=True)
    for script in (page, widget):
        assert not re.search("^import ", script, re.M)
    assert not re.search("^export ", page, re.M)
    assert re.findall("^export .*", widget, re.M) == ["export default { render };"]
    folder = Path(export.__file__).parent
    entries = {"page.mjs": page, "notebook.mjs": widget}
    for path in folder.glob("*.mjs"):
        first_line = path.read_text(encoding="utf-8").splitlines()[0]
        for entry, script in entries.items():
            assert script.count(first_line) == (path.name == entry or path.name not in entries)


def write_modules(folder, **sources):
    for name, lines in sources.items():
        (folder / f"{name}.mjs").write_text(
            "".join(f"{line}\n" for line in lines), encoding="utf-8"
        )


def test_modules_are_joined_after_what_they_import(tmp_path):
    write_modules(
        tmp_path,
        main=[
            'import { a } from "./a.mjs";',
            'import {\n  b,\n  C,\n} from "./b.mjs";',
            "export default a + b;",
        ],
        a=['import { b } from "./b.mjs";', "export const a = b;"],
        b=["export const b = 1;", "export class C {}"],
        unused=["const b = 2;"],
    )
    joined = join(tmp_path, "main.mjs")
    assert [line for line in joined.splitlines() if line] == [
        "const b = 1;",
        "class C {}",
        "const a = b;",
        "export default a + b;",
    ]


@pytest.mark.parametrize(
    ("declaration", "again"),
    [
        ("const x = 1;", "export function x() {}"),
        ("export class x {}", "let x;"),
        ("const [y, x] = [1, 2];", "export async function x() {}"),
    ],
)
def test_joined_modules_may_not_define_the_same_name(tmp_path, declaration, again):
    write_modules(
        tmp_path,
        main=['import { a } from "./a.mjs";', declaration],
        a=["export const a = 1;", again],
    )
    with pytest.raises(ValueError, match=r"a\.mjs and main\.mjs both define 'x'"):
        join(tmp_path, "main.mjs")


def test_names_inside_functions_do_not_clash(tmp_path):
    write_modules(
        tmp_path,
        main=['import { a } from "./a.mjs";', "function f() {", "  const x = 1;", "}"],
        a=["export const a = 1;", "const x = 2;"],
    )
    assert join(tmp_path, "main.mjs").count("const x") == 2


def test_joining_refuses_imports_that_it_cannot_resolve(tmp_path):
    write_modules(
        tmp_path,
        circle=['import { a } from "./a.mjs";', "export const c = 1;"],
        a=['import { c } from "./circle.mjs";', "export const a = 1;"],
        missing=['import { b, c } from "./leaf.mjs";'],
        renamed=['import { b as d } from "./leaf.mjs";'],
        whole=['import * as leaf from "./leaf.mjs";'],
        listed=["const e = 1;", "export { e };"],
        leaf=["export const b = 1;", "const c = 2;"],
    )
    refusals = {
        "circle": r"circle of imports: circle\.mjs -> a\.mjs -> circle\.mjs",
        "missing": r"missing\.mjs imports c, not exported by leaf\.mjs",
        "renamed": "imports b as d, not exported",
        "whole": "cannot join 'import ",
        "listed": "cannot join 'export ",
    }
    for name, message in refusals.items():
        with pytest.raises(ValueError, match=message):
            join(tmp_path, f"{name}.mjs")


def test_menus_call_a_model_what_it_was_trained_as():
    decoders = {"plain": "plain VAE", "affine": "affine", "tps": "thin-plate spline"}
    looks = {None: "", "straight": ", straightened first"}
    recipes = {"adadelta": "", "adam-one-cycle": ", modern recipe"}
    objectives = {"vae": "VAE", "multi": "multi-sample VAE", "iwae": "IWAE"}
    for name in export.SHOWN:
        _, record = tvae_core.load_pretrained(name)
        decoder = RunName.of(name).decoder
        objective = name.removeprefix(f"{decoder}-")
        config = record.config
        gray = "" if record.binary else ", gray"
        trained_as = f"{objectives[config['objective']]}, k = {config['k']}{gray}"
        recipe, look = recipes[config["optimizer"]], looks[config.get("look")]
        assert export.MENUS["decoders"][decoder] == decoders[config["model"]] + look
        assert export.MENUS["objectives"][objective] == trained_as + recipe


def test_some_digits_has_every_class_and_none_that_models_were_trained_on():
    digits = export.some_digits(2)
    assert digits.labels.tolist() == 2 * list(range(10))
    held_out = data.load("mini", "test").pixels
    assert all((held_out == pixels).flatten(1).all(1).any() for pixels in digits.pixels)


@pytest.mark.parametrize("view", export.VIEWS)
@pytest.mark.parametrize("name", ["plain-vae", "tps-iwae5"])
def test_still_pictures_are_drawn_and_described(view, name, tmp_path):
    picture = fallback.write_picture(view, name, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = {"pose": "Three rows", "plain": "Two rows", "bounds": "A curve that falls"}
    kind = picture.name.removesuffix(f"-{name}.png")
    assert fallback.alt(view, name).startswith(rows[kind])
    assert (kind == "bounds") == (view == "bounds")


@pytest.mark.parametrize("name", ["plain-vae", "tps-iwae5"])
def test_a_still_picture_shows_what_the_model_makes_of_each_digit(name):
    model, record = tvae_core.load_pretrained(name)
    x = export.some_digits()
    if record.binary:
        x = data.binarize_fixed(x)
    x = x[torch.tensor([1, 4, 5, 7, 12])]
    latents = model.posterior(x.x).mean
    shown = {"x": x.x, "c(z)": None, "output": model.decoder(latents).mean}
    if name == "plain-vae":
        del shown["c(z)"]
    else:
        shown["c(z)"] = model.canonical(latents)
    axes = fallback._digits(name).axes
    assert [ax.get_ylabel() for ax in axes[::5]] == list(shown)
    for ax, expected in zip(axes, torch.cat(list(shown.values())), strict=True):
        (picture,) = ax.get_images()
        found = torch.tensor(picture.get_array().data)
        torch.testing.assert_close(found, expected[0].detach(), rtol=1e-4, atol=1e-5)
        assert ax.yaxis_inverted()
    (curve,) = fallback._bounds(name).axes[0].lines
    assert curve.get_xydata().T.tolist() == [record.nll_ks, record.nll_at]
