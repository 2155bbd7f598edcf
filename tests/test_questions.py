"""The questions of each chapter: their answers are computed again, and graded as they should be."""

import base64
import io
import json
import math
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from claims.sources import at, mean
from PIL import Image
from tables import base
from torch.distributions import Normal, kl_divergence

from tvae_core import bounds, data, models, own, poses, questions, warps
from tvae_core.evaluation import mean_se
from tvae_core.experiments import where
from tvae_core.moved import Moves
from tvae_core.questions import LETTERS, QUESTIONS, Question, ask, check

NODE = shutil.which("node")
SCRIPT = Path(__file__).parents[1] / "book" / "static" / "match.js"
KNOWN = {question.id: question for each in QUESTIONS.values() for question in each}
OF_THE_SAME_DRAWS = {"a": bounds.iwae, "b": lambda log_w: -bounds.iwae(-log_w), "c": bounds.elbo}


def log_of(*weights: float) -> torch.Tensor:
    return torch.tensor(weights).double().log()[:, None]


def sampled(between: float) -> float:
    """What bilinear sampling reads between the centres of two pixels, 0.2 and 0.6."""
    pixels = torch.tensor([0.2, 0.6]).repeat(2, 1)[None, None]
    grid = torch.tensor([-0.5 + between, 0.0]).expand(1, 2, 2, 2)
    return warps.sample(pixels, grid)[0, 0, 0, 0].item()


def inverse(a: float, t: float) -> float:
    """The x-coordinate that the inverse of the grid p -> a p + (t, 0) finds for the middle."""
    warp = warps.make_warp("affine", (3, 3))  # the middle is the centre of a pixel
    return warp.inverse_grid(torch.tensor([a - 1, 0, t, 0, a - 1, 0]))[1, 1, 0].item()


def sizes() -> dict[str, int]:
    make = {"affine": "a", "tps": "b"}
    found = {letter: warps.make_warp(name, (28, 28)).n_params for name, letter in make.items()}
    found["c"] = len(warps.translation_basis((28, 28)))
    return found | {"d": len(warps.similarity_basis((28, 28)))}


def bending_directions() -> int:
    """The rank of what an affine fit leaves of the spline's displacements."""
    points = warps.control_points(3)
    affine = torch.cat([torch.ones(9, 1), points], 1)
    rest = torch.eye(9) - affine @ torch.linalg.pinv(affine)
    return 2 * int(torch.linalg.matrix_rank(rest))


def matches(images: int, draws: int) -> int:
    order = torch.arange(images)
    return int((order.repeat(draws) == order.repeat_interleave(draws)).sum())


def largest_of(n: int) -> float:
    """The mean of the largest of n standard normal draws, by quadrature."""
    z = torch.linspace(-10, 10, 100_001).double()
    normal = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    density = n * normal.log_prob(z).exp() * normal.cdf(z) ** (n - 1)
    return torch.trapezoid(z * density, z).item()


def off_by(found: float, true: float) -> float:
    """The turn in degrees from one picture to another, as `poses` finds it."""
    maps = Moves(degrees=0).draw(2, torch.Generator())
    for i, degrees in enumerate((found, true)):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        maps[i, :, :2] = torch.tensor([[cos, sin], [-sin, cos]])
    return abs(poses.decompose(poses.compose(maps[:1], poses.inverse(maps[1:])))["degrees"].item())


def price_of_z() -> float:
    """By how much the bound of own images falls with a nat of the KL of z, half way to b = 1."""
    model = own.training.new_model("similarity", (8, 8), 1, 4)
    particles = model.particles(torch.rand(1, 1, 8, 8), 1)
    dearer = particles._replace(kl=particles.kl + torch.eye(5)[0])  # z comes first
    estimate = own.training.pose_first(model)
    return (estimate(particles, 0.5) - estimate(dearer, 0.5)).item()


def turn_of(x: float, y: float) -> float:
    """The degrees of a pose that sends the x axis there."""
    return poses.decompose(torch.tensor([[[x, -y, 0.0], [y, x, 0.0]]]))["degrees"].item()


def squared_weight(s2: float) -> float:
    """The mean of w² under q = N(0, s2), by quadrature."""
    z = torch.linspace(-12, 12, 200_001).double()
    p, q = (Normal(torch.zeros(()).double(), sd).log_prob(z).exp() for sd in (1.0, s2**0.5))
    return torch.trapezoid(p**2 / q, z).item()


def dreg_factor(*shares: float) -> float:
    """The derivative by the first draw's path, where the share of its log-weight is squared."""
    log_w = torch.tensor(shares).log()[:, None]
    return (log_w.softmax(0) ** 2)[0].item()


def fair_coin() -> float:
    x = torch.tensor(0.5)
    return torch.nn.functional.binary_cross_entropy(x, x).item()


def standard_error(n: int, sd: float) -> float:
    values = torch.tensor([sd, -sd]).repeat(n // 2) * math.sqrt((n - 1) / n)
    return mean_se(values)[1]


ANSWERS = {
    "01.1": fair_coin,
    "01.2": lambda: kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0)).item(),
    "01.5": lambda: 2 + 0.5 * -1,
    "02.1": lambda: 100 * -math.log(1 - 0.5),
    "02.3": lambda: warps.pixel_centres((20, 20))[0, 0, 0].item(),
    "02.6": lambda: inverse(2.0, 1.0),
    "03.1": lambda: -80 - 20,
    "03.5": lambda: (torch.full((6,), 0.1) ** 2).sum().sqrt().item(),
    "04.1": lambda: 1 - 1 / 2**2,
    "04.2": lambda: sampled(0.25),
    "04.5": bending_directions,
    "04.6": lambda: math.exp(3),
    "05.3": lambda: matches(2, 3),
    "05.4": lambda: bounds.iwae(torch.tensor([[-90.0], [-100.0]])).item(),
    "05.5": lambda: 4**2 / (1 + 1 + 2**2),
    "06.3": lambda: (torch.full((18,), 0.1) ** 2).sum().sqrt().item(),
    "06.4": lambda: 10 / math.sqrt(25),
    "06.5": lambda: bounds.miwae(log_of(1, 4, 1, 4), 2).item(),
    "07.1": lambda: log_of(3, 1).softmax(0)[0].item(),
    "07.4": lambda: standard_error(1600, 4.0),
    "08.2": lambda: (5 + 5) / (1 + 5),
    "08.4": lambda: math.sqrt(100),
    "08.5": lambda: dreg_factor(0.9, 0.1),
    "09.3": lambda: 2000 * (0.2 / 0.1) ** 2,
    "09.4": lambda: -math.log(1 / 4),
    "10.3": lambda: math.sqrt(16 / 4) / math.sqrt(1 / 64),
    "10.4": lambda: -sum(s * math.log(s) for s in (1.0,)) + math.log(8),
    "11.1": lambda: squared_weight(0.64),
    "11.4": lambda: inverse(2.0, 1.0),
    "12.1": lambda: torch.zeros(()).sigmoid().item(),
    "12.2": lambda: largest_of(10),
    "12.4": lambda: turn_of(0.866, -0.5),
    "13.1": lambda: inverse(0.5, 0.2),
    "13.4": lambda: off_by(178.0, -179.0),
    "13.6": price_of_z,
}


def order(values: dict[str, float]) -> str:
    return "".join(sorted(values, key=values.get))


def falls(model: str) -> float:
    """By how much the estimated NLL falls from one sample to 5,000, as a mean over seeds."""
    curves = [at(record) for record in base.seeds_of(f"{model}-vae").records]
    return statistics.mean(curve[1] - curve[5_000] for curve in curves)


def gains(model: str) -> float:
    return min(
        mean(f"{model}-{objective}") - mean(f"{model}-{objective}-modern")
        for objective in ("iwae5", "multi5")
    )


def count(name: str) -> int:
    return sum(p.numel() for p in models.build(name).parameters())


def floor() -> float:
    x = data.load("mini", "test").x
    return torch.nn.functional.binary_cross_entropy(x, x, reduction="none").sum((1, 2, 3)).mean()


def threshold(log_sigma: float) -> str:
    value = torch.nn.functional.threshold(torch.tensor(log_sigma), -6, 6).item()
    return {-7: "a", -6: "b", 6: "c"}[value]


def shifted(pixels: float) -> torch.Tensor:
    """How far the digits are from themselves when they are shifted there and back again."""
    warp, x = warps.make_warp("affine", (28, 28)), data.load("mini", "test")[:20].x
    there = torch.tensor([0, 0, pixels * 2 / 28, 0, 0, 0])
    return (warp(warp(x, there), -there) - x)[..., 2:-2].abs().sum().item()


def corner() -> str:
    """Which way the grid moves when the first control point is pulled to the right."""
    theta = torch.zeros(18)
    theta[0] = 0.5
    grid = warps.make_warp("tps", (28, 28)).grid(theta)
    moved = (grid - warps.pixel_centres((28, 28)))[..., 0]
    far = torch.tensor([14, 27])  # the middle and the opposite corner
    assert moved[far].abs().max() > 1e-3
    return "b" if moved.min() < -1e-3 and moved.max() > 1e-3 else "a"


def picture_moves() -> str:
    """Where the ink goes when each position of the grid goes to the left."""
    x = torch.zeros(1, 1, 28, 28)
    x[..., 14] = 1
    theta = torch.tensor([0, 0, -4 * 2 / 28, 0, 0, 0])
    return {10: "a", 18: "b", 14: "c"}[
        warps.make_warp("affine", (28, 28))(x, theta)[0, 0, 0].argmax().item()
    ]


def means() -> str:
    log_w = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    found = {letter: value(log_w) for letter, value in OF_THE_SAME_DRAWS.items()}
    (same,) = {order({k: v[i].item() for k, v in found.items()}) for i in range(100)}
    return same


# Choices and orders that code or records decide. The others are decided by the theory of a chapter.
CHOSEN = {
    "01.4": lambda: order({"a": 3, "b": 2, "c": 1} if falls("plain") > 0 else {}),
    "02.2": lambda: "b" if floor() > 5 * 2 else "",
    "02.4": picture_moves,
    "02.5": lambda: order(sizes()),
    "03.2": lambda: threshold(-7.0),
    "03.4": lambda: "a" if count("plain") > count("affine") else "b",
    "04.3": lambda: "a" if shifted(0.5) > 10 * shifted(1) else "",
    "04.4": corner,
    "05.6": means,
    "06.2": lambda: order({"a": falls("affine"), "b": falls("plain"), "c": falls("tps")}),
    "07.6": lambda: max(
        {"a": "plain", "b": "affine", "c": "tps"}.items(), key=lambda m: gains(m[1])
    )[0],
    "12.6": lambda: order(
        {
            "a": where.mapped(2_000, 45, "plain").mean().item(),
            "b": where.mapped(500, 45, "affine-straight").mean().item(),
            "c": where.mapped(2_000, 45, "affine-straight").mean().item(),
        }
    ),
    "11.6": lambda: order(
        {
            "a": mean("affine-iwae5-modern"),
            "b": mean("plain-iwae5-modern"),
            "c": mean("affine-straight-iwae5-modern"),
        }
    ),
}


def test_no_number_is_typed_without_a_computation_of_it():
    assert {*ANSWERS} == {each.id for each in KNOWN.values() if each.kind == "number"}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_number_is_the_answer_of_a_computation(name):
    value = ANSWERS[name]()
    assert KNOWN[name].grade(value)
    # As written, and nothing that is clearly something else.
    size = max(abs(value), 1)
    assert float(KNOWN[name].answer) == pytest.approx(value, abs=6e-3 * size)
    assert KNOWN[name].tolerance < 0.25 * size
    assert not any(KNOWN[name].grade(value + off * size) for off in (-0.3, 0.3))


@pytest.mark.parametrize("name", CHOSEN)
def test_a_choice_is_the_one_that_code_and_records_make(name):
    assert CHOSEN[name]() == KNOWN[name].answer


def test_each_chapter_asks_at_least_five_and_three_of_two_chapters_before(subtests):
    assert [*QUESTIONS] == [f"{n:02}" for n in range(1, len(QUESTIONS) + 1)]
    for chapter, asked in QUESTIONS.items():
        with subtests.test(chapter):
            assert [q.id for q in asked] == [f"{chapter}.{n}" for n in range(1, len(asked) + 1)]
            about, n = [q.about for q in asked], int(chapter)
            assert len(about) >= 5
            assert about.count(n - 2) >= 3 or n <= 2
            assert all(1 <= each <= n for each in about)
            assert about == sorted(about)


def test_a_question_is_complete(subtests):
    for question in KNOWN.values():
        with subtests.test(question.id):
            letters = LETTERS[: len(question.options)]
            assert question.kind in ("number", "choice", "order", "match")
            assert (question.kind in ("number", "match")) == (letters == "")
            assert (question.kind == "match") == ([*question.pictures] == ["input", "target"])
            assert question.kind != "choice" or question.answer in [*letters]
            assert question.kind != "order" or sorted(question.answer) == [*letters]
            assert len({*question.options}) == len(question.options)
            assert min(len(question.hint), len(question.why)) > 10
            assert not re.search(r"[$\\]", "".join([question.text, question.why]))


def test_the_right_choice_has_no_favourite_place():
    chosen = [q.answer for q in KNOWN.values() if q.kind == "choice"]
    assert {*"abc"} <= {*chosen}
    assert max(map(chosen.count, "abc")) < 0.65 * len(chosen)


EXAMPLE = Question("09.9", 9, "number", "How `many`?", 4.0, "Fewer.", "Two and two.", [], 0.5)
CHOICE = EXAMPLE._replace(kind="choice", answer="b", options=["1 < 2", "2"])
ORDER = CHOICE._replace(kind="order", answer="ba")
MATCH = EXAMPLE._replace(kind="match", answer=[30, 1.5, 0.25, 0], tolerance=[10, 0.1, 0.1, 0.1])


def test_an_answer_is_graded():
    assert EXAMPLE.grade(4.5)
    assert EXAMPLE.grade(3.5)
    assert not EXAMPLE.grade(4.6)
    assert not EXAMPLE.grade(3.4)
    assert not EXAMPLE.grade(-4)
    ends = CHOICE._replace(kind="number", answer=0.75, tolerance=0.01)
    assert [ends.grade(value) for value in (0.739, 0.74, 0.76, 0.761)] == [False, True, True, False]
    assert EXAMPLE.grade(torch.tensor(4.2))
    assert not EXAMPLE.grade(math.nan)
    assert [CHOICE.grade(letter) for letter in "ab"] == [False, True]
    assert [ORDER.grade(letters) for letters in ("ab", "ba")] == [False, True]
    assert MATCH.grade([30, 1.5, 0.25, 0])
    assert MATCH.grade((40, 1.4, 0.35, -0.1))  # the ends of all tolerances
    assert MATCH.grade(torch.tensor([30, 1.5, 0.25, 0]))


@pytest.mark.parametrize("place", range(4))
def test_each_value_of_a_match_has_to_be_right(place):
    for off in (-1.1 * MATCH.tolerance[place], 1.1 * MATCH.tolerance[place], math.nan):
        assert not MATCH.grade([v + off * (i == place) for i, v in enumerate(MATCH.answer)])


@pytest.mark.parametrize(
    ("question", "given", "sentence"),
    [
        (EXAMPLE, "b", "09.9 wants a number, such as 4.2, got 'b'"),
        (EXAMPLE, None, "wants a number"),
        (CHOICE, "c", "09.9 wants one letter of a, b, got 'c'"),
        (CHOICE, "ab", "wants one letter"),
        (CHOICE, "", "wants one letter"),
        (ORDER, "b", "09.9 wants all letters in order of a, b, got 'b'"),
        (ORDER, "bb", "wants all letters in order"),
        (CHOICE, 2, "wants one letter"),
        (
            MATCH,
            [30, 1.5, 0.25],
            r"09.9 wants four numbers, such as \[0, 1, 0, 0\]: the grid's turn",
        ),
        (MATCH, [30, 1.5, 0.25, 0, 0], "along y; got \\[30, 1.5, 0.25, 0, 0\\]"),
        (MATCH, [30, 1.5, 0.25, "b"], "wants four numbers"),
        (MATCH, [30, 1.5, 0.25, None], "wants four numbers"),
        (MATCH, "1234", "wants four numbers"),
        (MATCH, 30, "wants four numbers"),
    ],
)
def test_what_is_no_answer_is_said(question, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        question.grade(given)


def test_check_says_why_or_hints(capsys):
    check("05.5", 2.67)
    assert capsys.readouterr().out == "Right. 16 / 6 = 2.67.\n"
    check("05.5", 3)
    assert capsys.readouterr().out == "Not yet. (∑ w)² / ∑ w²\n"
    check("05.6", "bca")
    assert capsys.readouterr().out.startswith("Right. Harmonic")


def test_unknown_names_are_said():
    with pytest.raises(ValueError, match=r"unknown chapter '3'; known: 01, 02, "):
        ask("3")
    with pytest.raises(ValueError, match=r"unknown question '03'; known: 01.1, "):
        check("03", 1)
    with pytest.raises(ValueError, match="chapter must be a str"):
        ask(3)


def test_what_is_asked_can_be_read_without_a_script(subtests):
    for chapter, asked in QUESTIONS.items():
        with subtests.test(chapter):
            shown = ask(chapter)
            page = shown._repr_html_()
            assert repr(shown) == f"{len(asked)} questions, {chapter}.1 to {asked[-1].id}"
            assert page.count("<details><summary>Answer to ") == len(asked)
            kinds = [question.kind for question in asked]
            assert page.count('<ol type="a">') == kinds.count("choice") + kinds.count("order")
            assert page.count("<img ") == 2 * kinds.count("match")
            assert f'<div class="tvae-questions" data-chapter="{chapter}">' in page
            for question in asked:
                assert f'data-id="{question.id}" data-kind="{question.kind}"' in page
            with_tolerance = kinds.count("number") + kinds.count("match")
            assert page.count("data-tolerance") == with_tolerance


def test_marks_of_html_are_text_and_code_is_code():
    page = questions.as_html(CHOICE)
    assert "How <code>many</code>?" in page
    assert "<li>1 &lt; 2</li><li>2</li>" in page
    assert "<p><strong>b</strong>. Two and two.</p></details>" in page
    assert "<p><strong>b, a</strong>. " in questions.as_html(ORDER)
    assert 'data-hint="Fewer."' in page


# Matches: the picture that a grid makes of the input is the one that PyTorch makes.

MATCHES = [question for question in KNOWN.values() if question.kind == "match"]
AWAY = [(0, 1, 0, 0), (30, 1, 0, 0), (0, 2, 0, 0), (0, 0.5, 0, 0), (0, 1, 0.25, 0), (0, 1, 0, 0.25)]
AWAY += [(-65, 0.7, -0.35, 0.5), (90, 1.3, 0.5, -0.45)]


def levels_of(question: Question, name: str) -> np.ndarray:
    """The levels of one of its pictures, 0 for black."""
    png = Image.open(io.BytesIO(base64.b64decode(question.pictures[name]["png"])))
    return np.asarray(png).astype(int)


def read_by(values, levels: np.ndarray) -> np.ndarray:
    """The levels that a grid with this turn, scale and shift reads, by the book's own warp."""
    turn, scale, *shift = values
    cos, sin = (scale * f(math.radians(turn)) for f in (math.cos, math.sin))
    theta = torch.tensor([cos - 1, -sin, shift[0], sin, cos - 1, shift[1]])
    ink = 1 - torch.tensor(levels[None]) / 255
    out = warps.make_warp("affine", levels.shape)(ink, theta)[0]
    return (255 * (1 - out)).round().int().numpy()


def in_javascript(name: str, *arguments):
    """What a function of match.js returns."""
    called = f"globalThis.matchQuestion.{name}(...{json.dumps(arguments)})"
    code = f"require({json.dumps(str(SCRIPT))}); console.log(JSON.stringify({called}))"
    done = subprocess.run([NODE, "-e", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("asked", MATCHES, ids=lambda asked: asked.id)
def test_a_target_is_what_the_grid_of_the_answer_reads(asked):
    source, target = (levels_of(asked, name) for name in ("input", "target"))
    assert source.shape == target.shape == (28, 28)
    assert np.abs(read_by(asked.answer, source) - target).max() <= 1
    # Mistakes that readers make: another picture, and not taken for right.
    turn, scale, x, y = asked.answer
    for wrong in ((-turn, scale, x, y), (turn, 1 / scale, x, y), (turn, scale, -x, y)):
        assert np.abs(read_by(wrong, source) - target).max() > 100
        assert not asked.grade(wrong)


@pytest.mark.skipif(NODE is None, reason="needs node to run the page's JavaScript")
@pytest.mark.parametrize("asked", MATCHES, ids=lambda asked: asked.id)
def test_the_page_draws_what_the_warp_gives_and_describes_it(asked, subtests):
    source = levels_of(asked, "input")
    for values in (asked.answer, *AWAY):
        with subtests.test(values):
            drawn = in_javascript("output", source.flatten().tolist(), values)
            drawn = np.array([drawn[str(k)] for k in range(28 * 28)]).reshape(28, 28)
            assert np.abs(drawn - read_by(values, source)).max() <= 1
    # Who cannot see the pictures compares their descriptions.
    assert in_javascript("described", asked.answer) == asked.pictures["target"]["alt"]
    for values in AWAY:
        assert in_javascript("described", values) != asked.pictures["target"]["alt"]
    right = in_javascript("described", (0, 1, -0.25, 0))
    assert right.endswith("its middle 0.25 to the right and 0.00 down")


@pytest.mark.parametrize("asked", MATCHES, ids=lambda asked: asked.id)
def test_the_page_of_a_match_shows_the_input_and_the_target(asked):
    page = questions.as_html(asked)
    for name, each in asked.pictures.items():
        assert f'base64,{each["png"]}" alt="{each["alt"]}"' in page
        assert f"<figcaption>{name}</figcaption>" in page
    (levels,) = re.findall('data-levels="([^"]*)"', page)
    assert [*base64.b64decode(levels)] == levels_of(asked, "input").flatten().tolist()
    assert f'data-answer="{json.dumps(asked.answer)}"' in page
