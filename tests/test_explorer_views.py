"""Numbers, pictures and plots of the explorer are those that Python computes from the same pixels
and draws."""

import math
import re

import pytest
import torch
from explorer_page import ENCODED, MINUS, draws_of, informative, numbers, on_page, shipped
from test_explorer_model import NODE, close
from torch.distributions import kl_divergence

from tvae_core import bounds, data, evaluation, models, poses, warps
from tvae_core.explorer import export
from tvae_core.explorer.export import STRAIGHTENED
from tvae_core.runtime import seeded

pytestmark = pytest.mark.skipif(NODE is None, reason="needs node to run the explorer's JavaScript")
GRAY = 0.5 / 255 + 1e-4  # a canvas has 256 grays


def mean_se(values):
    return values.mean().item(), (values.std() / math.sqrt(len(values))).item()


def reader(labels, places):
    """A function that reads values off a plot, from tick labels and their places on it."""
    at = torch.tensor([float(place.rstrip("%")) for place in places]).double()
    values = torch.tensor([numbers(label)[0] for label in labels]).double()
    assert len(at) >= 2
    design = torch.stack([at, torch.ones_like(at)], 1)
    slope, start = torch.linalg.lstsq(design, values.unsqueeze(1)).solution.flatten()
    torch.testing.assert_close(slope * at + start, values, rtol=0, atol=1e-6)
    return lambda place: slope.item() * float(str(place).rstrip("%")) + start.item()


# ---------------------------------------------------------------- bounds

FIVE_HUNDRED = """
  const slider = page.the("input", "number of draws");
  slider.value = 8;  // the ninth mark: 500
  slider.fire("input");
  page.the("button", "draw").click();
  await until(() => cells()[0] === "500");
  return {
    rows: marks("th", null, "textContent").flat(), cells: cells(), x: pictures("the image")[0],
    warning: marks("p", "warning", "textContent")[0][0],
    texts: marks("text", null, "x", "y", "textContent", "text-anchor"),
    dots: marks("circle", "curve", "cx", "cy"), rules: marks("line", "rule", "y1").flat(),
    lines: marks("line", "curve", "x1", "x2", "y1", "y2"), axes: marks("line", "axis", "y1").flat(),
    bars: marks("rect", "bar", "x", "width", "y", "height"),
    marked: ["elbo", "logp"].map((kind) => marks("line", kind, "x1")[0][0]),
    names: ["elbo", "logp"].map((kind) => marks("text", kind, "x", "textContent")[0]),
  };
"""


@pytest.fixture(scope="module", params=["plain-multi5", "affine-iwae5", "tps-vae", STRAIGHTENED])
def five_hundred(request):
    """The bounds view after 500 draws for one digit, and PyTorch's log-weights of these draws."""
    model, digits, binary = shipped(request.param)
    seen = on_page(model, "bounds", FIVE_HUNDRED, digit=1, binarized=binary)
    x = digits[1:2].x
    close(seen["x"], x, GRAY)  # the same pixels
    return seen, draws_of(model, x, 1, 500)[1]


def test_the_numbers_of_the_bounds_are_pythons(five_hundred):
    seen, log_w = five_hundred
    rows = dict(zip(seen["rows"], seen["cells"], strict=True))
    w = log_w.softmax(0)
    ess = 1 / w.square().sum().item()
    assert rows.pop("draws k") == "500"
    assert rows.pop("effective sample size") == (f"{ess:.1f}" if ess < 10 else f"{ess:.0f}")
    share = float(rows.pop("largest weight's share").removesuffix(" %"))
    assert share == pytest.approx(100 * w.max().item(), abs=0.51)
    log_p = bounds.iwae(log_w).item(), math.sqrt(1 / ess - 1 / 500)
    expected = {"ELBO": mean_se(log_w), "log p(x), estimated": log_p}
    assert rows.keys() == expected.keys()
    for name, text in rows.items():
        assert numbers(text) == pytest.approx(expected[name], abs=0.0051 + 2e-3), name


def test_few_effective_draws_are_marked(five_hundred):
    seen, log_w = five_hundred
    few = 1 / log_w.softmax(0).square().sum() < 10
    assert seen["warning"].startswith("Fewer than 10 effective draws" if few else "")
    assert bool(seen["warning"]) == bool(few)


def test_few_effective_draws_miss_log_p_as_the_warning_says():
    """500 draws against 10,000: too low, often by a nat or more, at a smaller standard error."""
    model, digits, _ = shipped("affine-iwae5")
    with seeded(11), torch.inference_mode():
        blocks = torch.stack([model.particles(digits[:4].x, 500).log_w for _ in range(20)]).double()
    blocks = blocks.permute(2, 0, 1)  # (digit, block, draw)
    off = bounds.iwae(blocks.permute(2, 0, 1)) - bounds.iwae(blocks.flatten(1).T).unsqueeze(1)
    ess = 1 / blocks.softmax(2).square().sum(2)
    few = ess < 10
    assert (off[few] < 0).double().mean() > 0.6
    assert (off[few] < -1).double().mean() > 1 / 3
    assert (1 / ess[few] - 1 / 500).sqrt().median() < 0.6


def test_the_plotted_bounds_are_pythons(five_hundred):
    """Places on the plot are read by its own labels."""
    seen, log_w = five_hundred
    upwards = [t for x, _, t, anchor in seen["texts"] if anchor == "end" and x == "12%"]
    value = reader(upwards, seen["rules"])
    assert value(0) > value(100)
    place = {t: x for x, _, t, _ in seen["texts"]}
    exponent = reader(["0", "1", "2", "3"], [place[k] for k in ("1", "10", "100", "1000")])
    ks = (1, 2, 5, 10, 20, 50, 100, 200, 500)
    joins, bars = seen["lines"][:8], seen["lines"][8:]
    for k, (cx, cy), (x1, x2, y1, y2) in zip(ks, seen["dots"], bars, strict=True):
        values = bounds.iwae(log_w[: 500 // k * k].view(-1, k).T)
        if k < 500:
            mean, se = mean_se(values)
        else:
            mean, se = values.item(), (log_w.softmax(0).square().sum() - 1 / 500).sqrt().item()
        assert 10 ** exponent(cx) == pytest.approx(k, rel=1e-6)
        assert x1 == x2 == cx
        assert value(cy) == pytest.approx(mean, abs=2e-3)
        assert [value(y1), value(y2)] == pytest.approx([mean - se, mean + se], abs=4e-3)
    for line, start, end in zip(joins, seen["dots"], seen["dots"][1:], strict=False):
        assert line == [start[0], end[0], start[1], end[1]]


def test_the_histogram_of_weights_is_pythons(five_hundred):
    seen, log_w = five_hundred
    ticks = [(t, x) for x, y, t, anchor in seen["texts"] if (anchor, y) == ("middle", "157")]
    value = reader(*zip(*ticks[4:], strict=True))  # the first four are those of the other plot
    assert value(100) > value(0)
    for mark, expected in zip(seen["marked"], (log_w.mean(), bounds.iwae(log_w)), strict=True):
        assert value(mark) == pytest.approx(expected.item(), abs=5e-3)
    expected = zip(seen["marked"], ("ELBO", "log p(x)"), strict=True)
    assert seen["names"] == [list(each) for each in expected]
    edges = torch.tensor([value(x) for x, *_ in seen["bars"]] + [value(100)]).double()
    assert edges[0] < log_w.quantile(0.02)  # the first bar has all of the lower tail
    assert edges[-1] > log_w.max()
    counts = torch.histogram(log_w.clamp(min=edges[0].item()), edges).hist
    heights = torch.tensor([float(height) for *_, height in seen["bars"]]).double()
    torch.testing.assert_close(heights / heights.max(), counts / counts.max(), rtol=0, atol=0.02)
    feet = {round(float(y) + float(height), 6) for _, _, y, height in seen["bars"]}
    assert feet == {float(seen["axes"][1])}


# ---------------------------------------------------------------- encode


@torch.no_grad()
@pytest.mark.parametrize("name", ["affine-iwae5", "tps-vae", "plain-multi5"])
def test_the_terms_of_the_elbo_are_pythons(name):
    """From the same draws, and equal up to rounding."""
    model, digits, binary = shipped(name)
    act = ENCODED + "return [marks('th', null, 'textContent').flat(), cells()]"
    rows, cells = on_page(model, "encode", act, digit=4, binarized=binary)
    terms = evaluation.elbo_terms(model, digits[4:5], 1)
    recon, se = mean_se(-draws_of(model, digits[4:5].x, 4, 200)[0])
    expected = {
        "reconstruction loss": (recon, se),
        "KL of z": (terms.kl_z.item(), 0),
        "KL of u": (terms.kl_u.item(), 0),
        f"sum, {MINUS}ELBO": (recon + terms.kl_z.item() + terms.kl_u.item(), se),
    }
    if not model.dim_u:
        del expected["KL of u"]
    assert rows == list(expected)
    for text, values in zip(cells, expected.values(), strict=True):
        assert numbers(text) == pytest.approx(values, abs=0.0051 + 2e-3)


@torch.no_grad()
def test_after_a_second_look_the_kl_of_z_is_a_mean_over_the_draws_of_u():
    """That of u stays exact, and so do the words for it."""
    model, digits, binary = shipped(STRAIGHTENED)
    act = (
        ENCODED
        + "return [cells(), page.all((e) => e.classes.includes('numbers'))[0]"
        + (".all((e) => e.tag === 'figcaption')[0].textContent, marks('th', null, 'title').flat()]")
    )
    cells, caption, hints = on_page(model, "encode", act, digit=4, binarized=binary)
    q = model.posterior(digits[4:5].x)
    log_lik, _, kls = draws_of(model, digits[4:5].x, 4, 200)
    of_z, of_u = (kl.sum(-1) for kl in model.split(kls))
    exact = kl_divergence(q.u, model.prior).sum().item()
    expected = [mean_se(-log_lik), mean_se(of_z), (exact, 0), mean_se(of_z + of_u - log_lik)]
    assert of_z.std() > 0.1
    for text, values in zip(cells, expected, strict=True):
        assert numbers(text) == pytest.approx(values, abs=0.0051 + 2e-3)
    assert "The KL of u is exact. That of z depends on u, and is a mean over the draws" in caption
    assert hints[1:3] == ["KL(q(z | x, u) || p(z)), mean of 200 draws of u", "KL(q(u | x) || p(u))"]


EVERY_LOOK = [(STRAIGHTENED, None), *((None, look) for look in models.LOOKS)]


@torch.no_grad()
@pytest.mark.parametrize(("name", "look"), EVERY_LOOK)
def test_the_straightened_image_stands_between_x_and_the_canonical_image(name, look):
    """If there is one. It is that of the mean of u, and follows the image and not the grid."""
    if name:
        model, digits, binary = shipped(name)
    else:
        with seeded(5):
            model = models.build("affine", dim_z=4, hidden=(16,), look=look, pose_std=0.5)
        digits, binary = export.some_digits(), False
    act = """
      const seen = [];
      for (const digit of given) {
        scene.choose(digit);
        scene.setU(scene.u.map((u) => u + 1));
        await settle();
        const [row] = page.all((e) => e.classes.includes("pictures"));
        const canvases = row.all((e) => e.tag === "canvas");
        const captions = row.all((e) => e.tag === "figcaption").map((e) => e.textContent);
        seen.push([canvases.map((e) => [e.attributes["aria-label"], e.gray]), captions]);
      }
      return seen;
    """
    chosen = [5, 14, 7]
    seen = on_page(model, "encode", act, digit=0, binarized=binary, given=chosen)
    straightens = look not in ("once", "pose")
    for x, (canvases, captions) in zip(digits[torch.tensor(chosen)].x, seen, strict=True):
        names, (first, *between) = zip(*canvases[:-2], strict=True)
        close(first, x, GRAY)
        assert names == ("the image", "the image, straightened")[: 1 + straightens]
        assert ("x, straightened" in captions) == straightens
        for shown in between:
            u = model.posterior(x.unsqueeze(0)).u.mean
            straightened = model.encoder.straightened(x, u)
            assert (straightened - x).abs().max() > 0.3
            close(shown, straightened, GRAY)


def test_the_reconstruction_loss_is_unbiased():
    """Each of 36 is within the errors of Python's and the page's, and all are right on average."""
    act = """
      const seen = [];
      for (let i = 0; i < 12; i++) {
        scene.choose(i);
        await settle();
        await until(() => cells()[0] !== "…");
        seen.push(cells()[0]);
      }
      return seen;
    """
    off, errors = [], []
    for name in ("plain-vae", "affine-iwae5", "tps-multi5"):
        model, digits, binary = shipped(name)
        here = torch.tensor([numbers(text) for text in on_page(model, "encode", act, 5, binary)])
        with torch.no_grad(), seeded(0):
            losses = -model.particles(digits[:12].x, 500).log_lik
        off.append(here[:, 0] - losses.mean(0))
        errors.append(torch.hypot(here[:, 1], losses.std(0) / math.sqrt(500)))
    off, errors = torch.cat(off), torch.cat(errors)
    assert (off.abs() < 4 * errors).all()
    assert off.mean().abs() < 3 * errors.norm() / 36 < 0.5


@torch.no_grad()
@pytest.mark.parametrize("name", ["affine-iwae5", STRAIGHTENED])
def test_swaps_are_pythons(name):
    """What from one digit, where from the other, whichever two the reader chooses."""
    model, digits, binary = shipped(name)
    act = """
      const names = ["the image", "second digit", "canonical image of the first",
        "canonical image of the second", "first, as it lies", "second, as it lies",
        "first, lying like the second", "second, lying like the first"];
      const show = async () => {
        await settle();
        return [names.map((name) => pictures(name)[0]), marks("p", "said", "textContent")[0][0]];
      };
      const first = await show();
      page.the("button", "second digit").click();
      page.the("button", "a 8, number 3").click();
      const second = await show();
      page.the("button", "first digit").click();
      page.the("button", "a 7, number 1").click();
      return [first, second, await show()];
    """
    seen = on_page(model, "swap", act, digit=5, binarized=binary)
    for chosen, (pictures, said) in zip(((5, 14), (5, 28), (7, 28)), seen, strict=True):
        x = digits[torch.tensor(chosen)].x
        mean = model.posterior(x).mean
        (z1, z2), (u1, u2) = model.split(mean)
        pairs = ((z1, u1), (z2, u2), (z1, u2), (z2, u1))
        drawn = [model.decoder(torch.cat(pair)).mean for pair in pairs]
        expected = [*x, *model.canonical(mean), *drawn]
        for picture, right in zip(pictures, expected, strict=True):
            close(picture, right, GRAY)
        off = float(re.search(r"moved by ([\d.]+) pixels", said)[1])
        assert off == pytest.approx(grid_moves(*model.grid(mean)), abs=0.051)


def grid_moves(a, b):
    """The mean distance of two grids in pixels of 28 x 28."""
    return (14 * (a - b)).norm(dim=-1).mean().item()


@torch.no_grad()
@pytest.mark.parametrize("view", ["pose", "appearance", "encode"])
def test_a_line_says_what_the_last_moves_have_done(view):
    model, digits, binary = shipped("affine-iwae5")
    act = """
      const seen = [];
      const see = async () => {
        await settle();
        seen.push([marks("p", "said", "textContent")[0][0], Array.from(scene.latents)]);
      };
      await see();
      scene.setU(scene.u.map((u) => u + 0.7));
      await see();
      scene.setZ(scene.z.map((z) => -z));
      await see();
      scene.setU(scene.q.mean.subarray(54));
      await see();
      return seen;
    """
    seen = on_page(model, view, act, digit=5, binarized=binary)
    x = digits[5:6].x
    own = torch.tensor(seen[0][1])
    for i, (said, latents) in enumerate(seen):
        latents = torch.tensor(latents)
        missed = ((model.decoder(latents).mean - x).abs() > 0.5).sum()
        redrawn = ((model.canonical(latents) - model.canonical(own)).abs() > 0.1).sum()
        moved = grid_moves(model.grid(latents), model.grid(own))
        if i == 0:
            assert f"The output misses {missed} of the image's 784 pixels" in said
        assert ("You changed u" in said) == (i == 1)
        assert ("The canonical image stands still, as z does" in said) == (i == 1)
        assert ("The grid stands still, as u does" in said) == (i == 3)
        if i in (1, 2):
            found = float(re.search(r"moved by ([\d.]+) pixels", said)[1])
            assert found == pytest.approx(moved, abs=0.051)
        if i in (2, 3):
            assert f"z: {redrawn} of 784 pixels of the canonical image changed" in said


def test_the_plot_of_lengths_is_that_of_the_priors_draws():
    """The curve is the density of |u|, and the mark stands where this u is."""
    model, _, binary = shipped("affine-iwae5")
    act = """
      const [plot] = page.all((e) => e.classes.includes("length"));
      const path = plot.all((e) => e.tag === "path")[0].attributes.d;
      const seen = [path];
      for (const length of [1.5, 78]) {
        scene.setU([length, 0, 0, 0, 0, 0]);
        await settle();
        seen.push([marks("line", "mark", "x1")[0][0], plot.classes.includes("beyond")]);
      }
      const ticks = plot.all((e) => e.tag === "text");
      return [...seen, ticks.map((e) => [e.textContent, e.attributes.x])];
    """
    path, near, far, ticks = on_page(model, "pose", act, binarized=binary)
    length = reader(*zip(*ticks, strict=True))
    assert length(near[0]) == pytest.approx(1.5, abs=1e-3)
    assert (near[1], far) == (False, ["100%", True])
    xy = torch.tensor(
        [[float(v) for v in pair.split()] for pair in re.findall("L([^ ]+ [^ ]+)", path)]
    )
    at = torch.tensor([length(x) for x in xy[:-1, 0].tolist()])
    density = at**5 * (-(at**2) / 2).exp()
    height = xy[0, 1] - xy[:-1, 1]
    close((height / height.max()).tolist(), density / density.max(), 0.01)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "q_of_z"),
    [("affine-iwae5", "q(z | x)"), (STRAIGHTENED, "q(z | x, u) at the mean of u")],
)
def test_the_plots_of_the_posterior_are_pythons(name, q_of_z):
    """Means and deviations, the most informative latents first; the band is from -1 to 1."""
    model, digits, binary = shipped(name)
    act = """
      return page.all((e) => e.classes.includes("posterior")).map((plot) => {
        const of = (tag, ...names) => plot
          .all((e) => e.tag === tag && !e.classes.includes("axis"))
          .map((e) => names.map((name) => Number.parseFloat(e.attributes[name])));
        return [plot.attributes["aria-label"], of("rect", "y", "height"), of("circle", "cx", "cy"),
          of("line", "x1", "y1", "y2")];
      });
    """
    seen = on_page(model, "encode", act, digit=3, binarized=binary)
    q = model.posterior(digits[3:4].x)
    kl, _ = informative(model, binary)
    for plot, q_of, first, last in zip(seen, (q_of_z, "q(u | x)"), (0, 54), (54, 60), strict=True):
        label, ((top, height),), dots, lines = plot
        assert label == f"{q_of}: mean and sigma of {last - first} latents"
        value = reader(["1", "-1"], [str(top), str(top + height)])
        assert value(0) > 1
        order = first + kl[first:last].argsort(descending=True, stable=True)
        mean, sigma = q.mean[0, order], q.stddev[0, order]
        close([value(y) for _, y in dots], mean, 1e-3)
        close([value(y) for _, y, _ in lines], (mean - sigma).clamp(-3, 3), 1e-3)
        close([value(y) for _, _, y in lines], (mean + sigma).clamp(-3, 3), 1e-3)
        assert [x for x, _ in dots] == sorted(x for x, _ in dots) == [x for x, *_ in lines]


@torch.no_grad()
def test_a_digit_is_binarized_as_in_python():
    model, _, _ = shipped("affine-iwae5")
    with seeded(10):
        images = data.from_tensor(torch.rand(3, 1, 28, 28))
    act = "return [0, 1, 2].map((i) => (scene.choose(i), scene.x))"
    for binarized, expected in ((True, data.binarize_fixed(images)), (False, images)):
        seen = on_page(model, "encode", act, digit=0, binarized=binarized, images=images)
        close(seen, expected.x, 1e-6)


# ---------------------------------------------------------------- pose and appearance


@torch.no_grad()
@pytest.mark.parametrize("name", ["affine-iwae5", STRAIGHTENED])
def test_the_pose_view_shows_u_and_where_it_lies(name):
    model, digits, binary = shipped(name)
    act = """
      const seen = [];
      const see = async () => {
        await settle();
        seen.push([marks("figcaption", "note", "textContent")[0][0],
          page.all((e) => e.classes.includes("slider")).map((e) => [e.children[0].textContent,
            Number(e.children[1].value), e.children[2].textContent, e.parent.parent.tag]),
          pictures("canonical image")[0], pictures("output of the decoder")[0],
          Array.from(scene.latents)]);
      };
      await see();
      page.the("input", "pose latent u 6").value = 1.5;
      page.the("input", "pose latent u 6").fire("input");
      await see();
      page.the("button", "random z").click();
      page.the("button", "random u").click();
      await see();
      page.the("button", "all u = 0").click();
      await see();
      scene.setU([78, 0, 0, 0, 0, 0]);
      await see();
      page.the("button", "reset").click();
      await see();
      return seen;
    """
    seen = on_page(model, "pose", act, digit=5, binarized=binary)
    first, moved, drawn, zero, _, reset = (torch.tensor(latents) for *_, latents in seen)
    mean = model.posterior(digits[5:6].x).mean[0]
    close(first.tolist(), mean, 1e-4)
    assert (moved != first).nonzero().flatten().tolist() == [59]
    assert moved[59] == 1.5
    assert (drawn != first).all()
    assert torch.equal(zero, torch.cat([drawn[:54], torch.zeros(6)]))
    assert torch.equal(reset, first)
    useful = informative(model, binary)[1][54:]
    for note, sliders, canonical, output, latents in seen:
        latents = torch.tensor(latents)
        close(canonical, model.canonical(latents), GRAY)
        close(output, model.decoder(latents).mean, GRAY)
        u = latents[54:]
        share = 100 * torch.special.gammainc(torch.tensor(3.0), u.square().sum() / 2).item()
        percent = "under 1" if share < 1 else "over 99" if share > 99 else f"{share:.0f}"
        length = re.fullmatch(rf"u is ([\d.]+) long: {percent} % of .* prior are shorter.", note)[1]
        assert float(length) == pytest.approx(u.norm().item(), abs=0.51 if u.norm() > 10 else 0.051)
        assert len(sliders) == 6
        for name, value, text, group in sliders:
            i = "₁₂₃₄₅₆".index(name.removeprefix("u"))
            assert value == pytest.approx(u[i].item(), abs=1e-6)
            assert numbers(text)[0] == pytest.approx(u[i].item(), abs=0.0051)
            assert (group == "details") == (not useful[i])


@torch.no_grad()
def test_the_grid_on_the_stage_is_pythons():
    """Its edges, its nine points, and the words for them."""
    model, _, binary = shipped("affine-iwae5")
    with seeded(9):
        latents = torch.randn(60)
    act = """
      scene.set(given);
      await settle();
      const [[box]] = marks("svg", null, "viewBox").filter(([box]) => box);
      return [box, marks("span", "knob", "style", "aria-valuetext"), marks("path", "edge", "d")];
    """
    box, knobs, ((edges,),) = on_page(model, "pose", act, binarized=binary, given=latents.tolist())
    extent = -float(box.split(" ")[0])
    A, t = model.decoder.pose(latents[54:]).view(2, 3).split((2, 1), dim=1)
    points = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 2).flip(1)
    expected = points + points @ A.T + t.T
    for (style, text), (x, y) in zip(knobs, expected.tolist(), strict=True):
        assert float(style["left"].rstrip("%")) == pytest.approx(50 * (1 + x / extent), abs=0.01)
        assert float(style["top"].rstrip("%")) == pytest.approx(50 * (1 + y / extent), abs=0.01)
        assert text.replace(MINUS, "-") == f"looks at x {x:.2f}, y {y:.2f}"
    drawn = torch.tensor([float(each) for each in re.findall(r"-?\d+\.\d+", edges)])
    corners = expected.view(3, 3, 2)[::2, ::2]
    close(drawn.view(4, 2, 2)[:2].tolist(), corners, 1e-3)  # the upper and the lower edge
    close(drawn.view(4, 2, 2)[2:].tolist(), corners.transpose(0, 1), 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", ["affine-iwae5", STRAIGHTENED])
def test_the_map_of_appearance_is_pythons(name):
    model, digits, binary = shipped(name)
    act = """
      await until(() => pictures("map of canonical images")[0]);
      const point = page.the("slider", "appearance, two latents");
      const [before, text] = [Array.from(scene.latents), point.attributes["aria-valuetext"]];
      for (const event of [{ key: "ArrowUp" }, { key: "ArrowRight", shiftKey: true }]) {
        point.fire("keydown", event);
        await settle();
      }
      return [pictures("map of canonical images")[0], before, text, scene.latents, point.style,
        page.the("select", "latent across").children.map((e) => e.attributes.value)];
    """
    tiles, before, text, after, place, menu = on_page(model, "appearance", act, 5, binary)
    kl, useful = informative(model, binary)
    order = kl[:54].argsort(descending=True, stable=True).tolist()
    a, b = order[:2]
    assert [int(i) for i in menu if i is not None] == [i for i in order if useful[i]]
    z = model.posterior(digits[5:6].x).mean[0]
    close(before, z, 1e-4)
    assert text.replace(MINUS, "-") == f"z {a + 1} {z[a]:.2f}, z {b + 1} {z[b]:.2f}"
    moved = torch.tensor(after) - torch.tensor(before)
    assert moved.nonzero().flatten().tolist() == sorted((a, b))
    assert moved[[a, b]].tolist() == pytest.approx([0.5, 0.1], abs=1e-5)
    # The point stands on the map where the latents are. Up and to the right are more.
    assert float(place["left"].rstrip("%")) == pytest.approx(50 * (1 + after[a] / 3), abs=0.01)
    assert float(place["top"].rstrip("%")) == pytest.approx(50 * (1 - after[b] / 3), abs=0.01)
    tiles = torch.tensor(tiles).view(7, 28, 7, 28).transpose(1, 2)
    for row, column in ((0, 0), (0, 6), (3, 3), (6, 1)):
        at = z.clone()
        at[a], at[b] = 3 * ((2 * column + 1) / 7 - 1), -3 * ((2 * row + 1) / 7 - 1)
        close(tiles[row, column].tolist(), model.canonical(at), GRAY)


@torch.no_grad()
def test_the_pose_of_a_moved_digit_is_pythons():
    """The picture, the inferred move and how sure the model is of it, and the canonical image."""
    model, digits, _ = export.load(export.MOVED)
    act = """
      const seen = [];
      for (const [degrees, right, down] of given) {
        for (const [name, value] of [["turn, degrees counter-clockwise", degrees],
          ["shift to the right, pixels", right], ["shift downwards, pixels", down]]) {
          const slider = page.the("input", name);
          slider.value = value;
          slider.fire("input");
        }
        await settle();
        seen.push([scene.gray, scene.x, cells(), pictures("canonical image")[0],
          marks("p", "said", "textContent")[0][0]]);
      }
      return seen;
    """
    model, into_z = model.cpu(), []
    moves = [(0, 0, 0), (25, 2, -1.5), (-40, 0, 3), (30, 0, 0)]
    seen = on_page(model, "move", act, 4, True, images=digits, given=moves)
    size, digit = model.size, digits[4:5].x
    upright = first = None
    for (degrees, right, down), (gray, x, cells, canonical, said) in zip(moves, seen, strict=True):
        turn = math.radians(degrees)
        cos, sin = math.cos(turn), math.sin(turn)
        P = torch.tensor([[cos, sin, right], [-sin, cos, down]])
        unit = torch.tensor([[size[1] / 2], [size[0] / 2]])
        back = poses.inverse(torch.cat([P[:, :2], P[:, 2:] / unit], 1))
        grid = warps.pixel_centres(size).float() @ back[:, :2].T + back[:, 2]
        close(gray, warps.sample(digit, grid), 1e-4)
        x = torch.tensor(x).float().view(1, 1, *size)
        assert set(x.unique().tolist()) == {0, 1}
        q = model.posterior(x)
        close(canonical, model.canonical(q.mean), GRAY)
        first = (x, model.canonical(q.mean)) if first is None else first
        moving, changed = (
            int(((one - other).abs() > 0.5).sum())
            for one, other in zip((x, model.canonical(q.mean)), first, strict=True)
        )
        assert f"{moving} of {x.numel()} pixels of the picture changed" in said
        assert f"and {changed} of the canonical image" in said
        into_z.append(3 * changed > moving)
        assert ("part of this move went into z" in said) == into_z[-1]
        after = poses.maps_of(model, x, q.u.mean)[0]
        upright = after[0] if upright is None else upright
        with seeded(0):
            drawn = poses.maps_of(model, x, q.u.sample((4_000,)))[0][:, 0]
        now = poses.decompose(poses.relative(after, upright, size))
        of_draws = poses.decompose(poses.relative(drawn, upright, size))
        off = re.search(r"off by ([\d.]+)°, ([\d.]+) and ([\d.]+) pixels", said).groups()
        for key, true, text, wrong in zip(
            ("degrees", "shift_x", "shift_y"), (degrees, right, down), cells, off, strict=True
        ):
            assert float(wrong) == pytest.approx(abs(now[key].item() - true), abs=0.051)
            value, error = numbers(text.replace("°", ""))
            assert value == pytest.approx(now[key].item(), abs=0.051)
            sd = (of_draws[key] - now[key]).square().mean().sqrt().item()
            assert error == pytest.approx(sd, rel=0.4, abs=0.051)
    assert {*into_z} == {True, False}
