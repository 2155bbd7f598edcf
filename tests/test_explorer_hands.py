"""What a reader's hands do in the explorer: dragging, drawing, pausing."""

import re

import pytest
import torch
from explorer_page import informative, on_page, shipped
from test_explorer_model import NODE, close, f32, javascript
from test_explorer_views import GRAY

from tvae_core.explorer import export
from tvae_core.runtime import seeded

pytestmark = pytest.mark.skipif(NODE is None, reason="needs node to run the explorer's JavaScript")


# ---------------------------------------------------------------- dragging the grid


def test_the_length_of_u_is_compared_with_the_priors_draws():
    cases = [(length, n) for n in (1, 2, 5, 6, 18) for length in (0, 0.3, 1, 2.4, 4, 9, 78)]
    length, n = torch.tensor(cases).double().T
    answers = javascript(*(["shareShorter", *case] for case in cases))
    close(answers, torch.special.gammainc(n / 2, length.square() / 2), 1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["affine-iwae5", "tps-iwae5"])
def test_the_likely_u_is_a_ridge_regression(name):
    """On the prior N(0, 1), with a tolerance of 0.1 in theta. Idle latents stay where they are."""
    model, _, binary = shipped(name)
    moves = informative(model, binary)[1][model.dim_z :]
    pose = model.decoder.pose
    with seeded(8):
        start, goal = torch.randn(2, model.dim_u)
        theta = pose(goal) + 0.3 * torch.randn(pose.out_features)
    call = ["likelyU", "model", f32(theta), f32(start)]
    (found,) = javascript(call, model=model, images=export.some_digits(), binarized=binary)
    W, b = pose.weight.double(), pose.bias.double()
    A, rest = W[:, moves], theta.double() - b - W[:, ~moves] @ start[~moves].double()
    expected = start.double()
    expected[moves] = torch.linalg.solve(A.T @ A + 0.01 * torch.eye(A.shape[1]), A.T @ rest)
    close(found, expected, 1e-4)


DRAG = """
  /** u after a handle has been dragged along a path, in pixels of a stage of 100. */
  const drag = async (name, ...path) => {
    scene.setU(given);
    await settle();
    const [knob] = page.all((e) => e.attributes["aria-label"]?.startsWith(name));
    const [x, y] = ["left", "top"].map((side) => Number.parseFloat(knob.style[side]));
    knob.fire("pointerdown", { clientX: x, clientY: y });
    for (const [dx, dy] of path) knob.fire("pointermove", { clientX: x + dx, clientY: y + dy });
    const u = Array.from(scene.u);
    knob.fire("lostpointercapture");
    return u;
  };
"""


def test_a_drag_leads_to_likely_poses_unless_the_reader_unchecks_them():
    model, digits, binary = shipped("affine-iwae5")
    idle = ~informative(model, binary)[1][54:]
    with torch.no_grad():
        start = model.posterior(digits[5:6].x).mean[0, 54:]
    act = DRAG + """
      const drags = async () => [await drag("centre", [10, 0]), await drag("top right", [0, 15]),
        await drag("top right", [5, 5], [0, 15]), await drag("right edge", [10, 0])];
      const likely = await drags();
      page.all((e) => e.attributes.type === "checkbox")[0].checked = false;
      return [...likely, ...(await drags()), await drag("top right", [0, 15], [0, 0])];
    """  # fmt: skip
    seen = torch.tensor(on_page(model, "pose", act, 5, binary, given=start.tolist()))
    likely, free, back = seen[:4], seen[4:8], seen[8]
    assert likely.norm(dim=1).max() < 3.3  # 9 of 10 of the prior's draws are shorter
    assert likely[0].norm() < 1.5
    assert (likely[:, idle] == start[idle]).all()
    assert not (likely[:, ~idle] == start[~idle]).any()
    assert free[0].norm() > 20  # where the prior never goes
    # Where a drag leads depends on its end and not on its way.
    for u in (likely, free):
        torch.testing.assert_close(u[1], u[2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back, start, rtol=0, atol=1e-3)
    # If free, a handle follows the pointer: 10 of 100 pixels of a stage that is 3 units wide.
    with torch.no_grad():
        moved = model.decoder.pose(free[3]) - model.decoder.pose(start)
    close([moved[0] + moved[2], moved[3] + moved[5]], torch.tensor([0.3, 0]), 1e-3)


def test_poses_stay_likely_in_the_encode_view():
    model, _, binary = shipped("affine-iwae5")
    act = DRAG + "return drag('centre', [10, 0])"
    u = on_page(model, "encode", act, binarized=binary, given=[0] * 6)
    assert 0 < torch.tensor(u).norm() < 1.5


def test_arrow_keys_go_on_where_the_grid_cannot_follow_all_the_way():
    """Each press asks for a step more, so ten presses lead as far as one drag."""
    act = """
      const [knob] = page.all((e) => e.attributes["aria-label"]?.startsWith("left edge"));
      const seen = [];
      for (let i = 0; i < 10; i++) {
        knob.fire("keydown", { key: "ArrowUp" });
        await settle();
        seen.push(Math.hypot(...scene.u));
      }
      knob.fire("blur");
      return seen;
    """
    model, _, binary = shipped("affine-iwae5")
    lengths = on_page(model, "pose", act, binarized=binary)
    assert lengths == sorted(lengths)
    assert lengths[-1] > 1.3 * lengths[0]


# ---------------------------------------------------------------- fingers and buttons

POINTERS = [{}, {"isPrimary": False}, {"button": 1}, {"button": 2}]  # finger, second finger, ...


def test_only_the_first_finger_or_the_main_button_drags():
    act = """
      const knob = page.all((e) => e.classes.includes("knob"))[5];
      const at = (x, pointer) => ({ clientX: x, clientY: 50, ...pointer });
      const moved = [];
      for (const [down, move] of [...given.map((each) => [each, each]), [{}, given[1]]]) {
        scene.setU(scene.u.map(() => 0));
        knob.fire("pointerdown", at(50, down));
        knob.fire("pointermove", at(60, move));
        knob.fire("lostpointercapture");
        moved.push(scene.u.some((value) => value !== 0));
      }
      return moved;
    """
    model, _, binary = shipped("affine-iwae5")
    moved = on_page(model, "pose", act, binarized=binary, given=POINTERS)
    assert moved == [True, False, False, False, False]


SHEET = """
  const [sheet] = page.all((e) => e.classes.includes("sheet"));
  const draw = (x, pointer = {}) => {
    sheet.fire("pointerdown", { clientX: x, clientY: 30, ...pointer });
    for (let y = 30; y < 70; y++) sheet.fire("pointermove", { clientX: x, clientY: y, ...pointer });
  };
  const lift = () => sheet.fire("lostpointercapture");
"""


def test_only_the_first_finger_or_the_main_button_draws():
    act = SHEET + """
      const strokes = [];
      for (const pointer of given) {
        draw(20 + 10 * strokes.length, pointer);
        lift();
        await settle();
        strokes.push(sheet.strokes);
      }
      draw(70);
      await settle();
      const before = scene.x;
      draw(90, given[1]);  // a second finger while the first is down
      await settle();
      return [...strokes, sheet.strokes, scene.x.every((value, i) => value === before[i])];
    """  # fmt: skip
    model, _, binary = shipped("affine-iwae5")
    seen = on_page(model, "encode", act, binarized=binary, given=POINTERS)
    assert seen == [1, 1, 1, 1, 2, True]


@torch.no_grad()
def test_a_crooked_drawing_is_straightened_read_and_drawn_again():
    act = SHEET + """
      sheet.fire("pointerdown", { clientX: 70, clientY: 20 });
      for (let y = 20; y < 80; y++) sheet.fire("pointermove", { clientX: 90 - y, clientY: y });
      lift();
      await settle();
      const names = ["the image", "the image, straightened", "canonical image",
        "output of the decoder"];
      return [scene.index, scene.x, ...names.map((name) => pictures(name)[0])];
    """  # fmt: skip
    model, _, binary = shipped(export.STRAIGHTENED)
    index, x, *seen = on_page(model, "encode", act, digit=5, binarized=binary)
    assert index is None
    x = torch.tensor(x).float().view(1, 1, 28, 28)
    q = model.posterior(x)
    straightened = model.encoder.straightened(x, q.u.mean)
    expected = [x, straightened, model.canonical(q.mean), model.decoder(q.mean).mean]
    for picture, right in zip(seen, expected, strict=True):
        close(picture, right, GRAY)
    assert slant(straightened) < 0.5 * slant(x)


def slant(x):
    """How far the columns of the ink move to the left, from one row to the next below it."""
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    row, column = (x * rows).sum() / x.sum(), (x * columns).sum() / x.sum()
    return -(x * (rows - row) * (columns - column)).sum() / (x * (rows - row) ** 2).sum()


def test_no_number_stands_beside_another_image():
    """Not while a drawing's numbers are computed, and not after it has been cleared."""
    act = SHEET + """
      const seen = [];
      const see = async () => {
        await settle();
        const waiting = cells();
        await until(() => cells()[0] !== "…");
        seen.push([waiting, cells(), pictures("the image")[0], sheet.strokes]);
      };
      await see();
      draw(40);
      lift();
      await see();
      page.the("button", "clear").click();
      await see();
      return seen;
    """  # fmt: skip
    model, _, binary = shipped("affine-iwae5")
    seen = on_page(model, "encode", act, digit=5, binarized=binary)
    (_, digit, x, _), (during, drawn, drawing, strokes), (after, cleared, back, none) = seen
    assert during == after == ["…"] * 4
    assert drawn != digit == cleared
    assert drawing != x == back
    assert (strokes, none) == (1, 0)


# ---------------------------------------------------------------- pausing


@pytest.mark.parametrize("motion", [True, False])
def test_pausing_keeps_the_draws_and_shows_them(motion):
    act = """
      const count = () => Number(cells()[0].replace(",", ""));
      page.the("button", "draw").click();
      await until(() => count() > 20);  // not only when all are there
      page.the("button", "pause").click();
      const paused = cells();
      page.the("button", "draw on").click();
      await until(() => count() > Number(paused[0].replace(",", "")));
      page.the("button", "pause").click();
      const more = cells();
      page.the("button", "start again").click();
      return [paused, more, cells()];
    """
    model, _, binary = shipped("affine-iwae5")
    paused, more, again = on_page(model, "bounds", act, 1, binary, motion=motion)
    first, second = (float(cells[0].replace(",", "")) for cells in (paused, more))
    assert 20 < first < second < 5_000
    assert all(paused)
    assert again == ["0", "", "", "", ""]


def test_a_single_draw_is_shown_as_what_it_is():
    act = """
      const slider = page.the("input", "number of draws");
      slider.value = 0;
      slider.fire("input");
      page.the("button", "draw").click();
      await until(() => cells()[0] === "1");
      await settle();
      return [cells(), marks("p", "said", "textContent")[0][0]];
    """
    model, _, binary = shipped("affine-iwae5")
    cells, said = on_page(model, "bounds", act, 1, binary)
    assert cells == ["1", "", "", "", ""]
    assert re.search(r"One draw: log w = .\d+\.\d\d nats", said)
    assert "need at least two draws" in said


# ---------------------------------------------------------------- choices


def test_a_latent_is_on_one_axis_of_the_map_only():
    act = """
      const menus = ["latent across", "latent up"].map((name) => page.the("select", name));
      const point = page.the("slider", "appearance, two latents");
      const before = menus[0].children.slice(0, 2).map((e) => Number(e.attributes.value));
      menus[1].value = before[0];  // which is on the other axis
      menus[1].fire("change");
      await settle();
      return [before, menus.map((e) => Number(e.value)), point.attributes["aria-valuetext"]];
    """
    model, _, binary = shipped("affine-iwae5")
    (a, b), chosen, text = on_page(model, "appearance", act, 5, binary)
    assert chosen == [b, a]
    assert re.findall(r"z (\d+) ", text) == [str(b + 1), str(a + 1)]


def test_a_strip_is_one_stop_and_arrow_keys_go_through_it():
    act = """
      const strip = page.all((e) => e.classes.includes("strip"))[0].children;
      const stops = () => strip.flatMap((e, i) => (e.attributes.tabindex === "0" ? [i] : []));
      const focused = [];
      strip.forEach((each, i) => (each.focus = () => (focused.push(i), each.fire("focus"))));
      const seen = [stops()];
      for (const [from, key] of [[5, "ArrowRight"], [6, "ArrowDown"], [16, "ArrowLeft"],
        [15, "ArrowUp"], [0, "ArrowUp"]]) strip[from].fire("keydown", { key });
      return [...seen, focused, stops()];
    """
    model, _, binary = shipped("affine-iwae5")
    first, focused, last = on_page(model, "encode", act, 5, binary)
    assert (first, focused, last) == ([5], [6, 16, 15, 5], [5])


# ---------------------------------------------------------------- what stays


def test_the_stage_keeps_its_scale_when_a_grid_that_fits_is_let_go():
    act = """
      const box = () => marks("svg", null, "viewBox").filter(([box]) => box)[0][0];
      const knob = page.the("slider", "centre of the sampling grid, moves it");
      page.all((e) => e.attributes.type === "checkbox")[0].checked = false;
      const seen = [box()];
      knob.fire("pointerdown", { clientX: 50, clientY: 50, pointerId: 1 });
      for (const far of given) {
        knob.fire("pointermove", { clientX: 50 + far, clientY: 50, pointerId: 1 });
        await settle();
      }
      knob.fire("lostpointercapture");
      await settle();
      return [...seen, box()];
    """
    model, _, binary = shipped("affine-iwae5")
    extent = "-1.5 -1.5 3 3"
    for far, kept in ((15, True), (40, False)):  # close to the edge, and beyond it
        before, after = on_page(model, "pose", act, 5, binary, given=[far])
        assert before == extent
        assert (after == extent) == kept


def test_a_plain_model_has_no_u_to_speak_of():
    model, _, binary = shipped("plain-vae")
    act = """
      const seen = [];
      for (const change of [() => {}, () => scene.setZ(scene.z.map((z) => -z))]) {
        change();
        await settle();
        seen.push(marks("p", "said", "textContent")[0][0]);
      }
      return seen;
    """
    first, then = on_page(model, "encode", act, digit=5, binarized=binary)
    assert first.startswith("z is what the encoder found.")
    assert then.startswith("You changed z: ")
    assert not re.search(r"\bu\b|grid", first + then)
