"""Moved pictures lie where their maps say, measured on the pixels."""

import math

import pytest
import torch

from tvae_core import data, moved, poses, warps
from tvae_core.data import Images
from tvae_core.moved import Moves

SIZE = (40, 50)


def ellipses(n: int) -> Images:
    """Upright ellipses, 4 pixels high and 2 wide (standard deviations), off the centre."""
    y, x = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(50) - 24.5, indexing="ij")
    one = torch.exp(-((x - 2) ** 2) / 8 - (y - 1) ** 2 / 32)
    return data.from_tensor(one.expand(n, 1, -1, -1).clone(), torch.arange(n), "ellipses")


def known(images: Images) -> poses.Poses:
    return poses.decompose(images.maps)


def test_a_turned_and_shifted_picture_lies_where_its_map_says(subtests):
    images = moved.moved(ellipses(50), Moves(degrees=60, shift=5, scale=1.2))
    seen, true = poses.moments(images), poses.decompose(images.maps)
    centre = images.maps @ torch.tensor([2.0, 1.0, 1.0])
    for name, found, expected, error in (
        ("degrees", seen["degrees"], true["degrees"], 1.5),
        ("x", seen["shift_x"], centre[:, 0], 0.1),
        ("y", seen["shift_y"], centre[:, 1], 0.1),
    ):
        with subtests.test(name):
            torch.testing.assert_close(found, expected, atol=error, rtol=0)
    sizes = seen["scale_y"] / seen["scale_y"].mean() / (true["scale_y"] / true["scale_y"].mean())
    torch.testing.assert_close(sizes, torch.ones(50), atol=0.03, rtol=0)
    assert true["degrees"].std() > 20


def test_ranges_are_filled_and_not_exceeded(subtests):
    moves = Moves(degrees=45, shift=5, scale=1.5, shear=0.3)
    units = poses.decompose(moves.draw(4_000, torch.Generator().manual_seed(0)))
    for name, low, high in (
        ("degrees", -45, 45),
        ("shift_x", -5, 5),
        ("shift_y", -5, 5),
        ("scale_x", 1 / 1.5, 1.5),
        ("shear", -0.3, 0.3),
    ):
        with subtests.test(name):
            assert low <= units[name].min() + 1e-4 < low + (high - low) / 50
            assert high >= units[name].max() - 1e-4 > high - (high - low) / 50
    torch.testing.assert_close(units["scale_x"], units["scale_y"])
    # Independent of each other.
    drawn = torch.stack([units[n] for n in ("degrees", "shift_x", "shift_y", "scale_x", "shear")])
    off = torch.corrcoef(drawn) - torch.eye(5)
    assert off.abs().max() < 4.5 / math.sqrt(4_000)


def test_without_moves_the_picture_stands_in_the_middle_of_the_canvas():
    images = data.load("mini", "test")[:5]
    still = moved.moved(images, Moves(), canvas=(50, 40))
    assert still.size == (50, 40)
    assert torch.equal(still.pixels[:, :, 11:39, 6:34], images.pixels)
    assert still.pixels.sum() == images.pixels.sum()
    assert torch.equal(still.maps, torch.eye(2, 3).expand(5, -1, -1))
    assert torch.equal(still.labels, images.labels)


def test_the_map_of_a_picture_that_is_moved_twice_is_that_of_both_moves():
    bar = data.from_tensor(torch.zeros(1, 1, 32, 32))
    bar.pixels[..., 6:26, 13:17] = 255
    once = moved.moved(bar, Moves(degrees=30, shift=2), seed=1)
    twice = moved.moved(once, Moves(degrees=30, shift=2), seed=2)
    alone = moved.moved(bar, Moves(degrees=30, shift=2), seed=2)
    torch.testing.assert_close(twice.maps, poses.compose(alone.maps, once.maps))
    seen, true = poses.moments(twice)["degrees"], poses.decompose(twice.maps)["degrees"]
    torch.testing.assert_close(seen.double(), true.double(), rtol=0, atol=0.5)


def test_a_bend_is_on_top_of_the_map():
    images = ellipses(3)
    straight = moved.moved(images, Moves(degrees=30))
    bent = moved.moved(images, Moves(degrees=30, bend=3.0))
    assert torch.equal(straight.maps, bent.maps)
    assert (bent.x - straight.x).abs().amax((1, 2, 3)).min() > 0.1


def test_pictures_depend_on_the_seed_and_on_nothing_else():
    images = data.load("mini", "test")[:20]
    moves = Moves(degrees=90, shift=2)
    torch.manual_seed(5)
    first = moved.moved(images, moves)
    torch.rand(3)
    again, other = moved.moved(images, moves), moved.moved(images, moves, seed=1)
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
    assert first.name == again.name != other.name


def test_glyphs_are_letters_in_their_poses(subtests):
    """An I is as upright as its map, in every face; its centre is where the map puts it."""
    images = moved.glyphs(3_000, Moves(degrees=40, shift=4), size=(40, 40), height=20)
    straight = images.labels == moved.LETTERS.index("I")
    seen, true = (f(images[straight]) for f in (poses.moments, known))
    assert straight.sum() > 80
    assert (seen["degrees"] - true["degrees"]).abs().max() < 2
    symmetric = torch.tensor([c in "HIOX" for c in moved.LETTERS])[images.labels]
    seen, true = (f(images[symmetric]) for f in (poses.moments, known))
    for name in ("shift_x", "shift_y"):
        with subtests.test(name):
            assert (seen[name] - true[name]).abs().median() < 0.1
    assert images.labels.unique().tolist() == list(range(26))
    again = moved.glyphs(10, Moves(degrees=40, shift=4), size=(40, 40), height=20)
    assert again.pixels.shape == (10, 1, 40, 40)


def test_the_style_of_a_letter_is_its_face():
    """Upright letters look the same if the letter and the face do, and only then."""
    images = moved.glyphs(600, Moves(), seed=2)
    key = len(moved.FACES) * images.labels + images.styles
    assert images.styles.unique().tolist() == list(range(len(moved.FACES)))
    looks = {k.item(): images.pixels[key == k] for k in key.unique()}
    assert all((some == some[0]).all() for some in looks.values())
    sans, serif = (moved.FACES.index(name) for name in ("DejaVuSans", "DejaVuSerif"))
    for letter in range(len(moved.LETTERS)):
        both = [looks.get(len(moved.FACES) * letter + face) for face in (sans, serif)]
        assert None in both or not torch.equal(both[0][0], both[1][0])
    # They stay with their letters in a selection and after a move.
    chosen = torch.tensor([5, 3])
    again = moved.moved(images[chosen], Moves(shift=2))
    assert again.styles.equal(images.styles[chosen])


def test_letters_can_be_drawn_again_in_other_poses():
    moves = Moves(degrees=30, shift=3)
    one, other, same = (moved.glyphs(30, moves, seed=4, pose_seed=p) for p in (0, 1, 0))
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.pixels, same.pixels)
    assert not torch.isclose(one.maps, other.maps).all(-1).any()
    still = [moved.glyphs(30, Moves(), seed=4, pose_seed=p).pixels for p in (None, 0)]
    assert torch.equal(*still)  # the faces are the same, too


def test_an_upright_letter_is_upright_and_as_high_as_asked():
    images = moved.glyphs(200, Moves(), size=(30, 34), height=12)
    h = images[images.labels == moved.LETTERS.index("H")].x
    rows = (h > 0.5).any(3)[:, 0].sum(1)
    assert ((rows - 12).abs() <= 1).all()
    ink = images.x[images.labels == moved.LETTERS.index("L")][:, 0]
    assert (ink[:, 15:].sum((1, 2)) > ink[:, :15].sum((1, 2))).all()  # the foot of an L is below
    assert (
        ink[:, :, :17].sum((1, 2)) > ink[:, :, 17:].sum((1, 2))
    ).all()  # its stem is on the left


def test_bad_ranges_and_canvases_are_refused():
    for bad in ({"degrees": -5}, {"shift": math.nan}, {"bend": math.inf}, {"scale": math.nan}):
        with pytest.raises(ValueError, match="at least 0, and the scale at least 1"):
            Moves(**bad)
    with pytest.raises(ValueError, match="the scale at least 1"):
        Moves(scale=0.5)
    height, width = ellipses(1).size
    for off in (-2, 1, 3):  # by an odd number, the picture's centre is half a pixel off
        for canvas in ((height + off, width), (height, width + off)):
            with pytest.raises(
                ValueError, match=r"as large as the images, \(\d+, \d+\), or larger"
            ):
                moved.moved(ellipses(1), Moves(), canvas=canvas)
    for height in (0, -3.0, math.nan):
        with pytest.raises(
            ValueError, match="height of a capital must be positive, in pixels; got"
        ):
            moved.glyphs(1, Moves(), height=height)


def test_moved_pictures_are_loaded_by_name(subtests):
    for split in data.SPLITS:
        with subtests.test(split):
            upright, lying = data.load("mini", split), data.load("moved-mini", split)
            seen = moved.moved(upright, moved.FAMILY, moved.CANVAS, seed=data.SPLITS.index(split))
            assert torch.equal(lying.pixels, seen.pixels)
            assert torch.equal(lying.maps, seen.maps)
            assert torch.equal(lying.labels, upright.labels)
    train, test = (data.load("letters", split) for split in data.SPLITS)
    assert train.size == test.size == moved.CANVAS
    assert not torch.equal(train.labels, test.labels)
    assert not torch.isclose(train.maps, test.maps).all(-1).any()


def test_every_family_is_loaded_by_name_with_what_is_true_of_its_pictures(subtests):
    for family, (moves, canvas) in moved.FAMILIES.items():
        with subtests.test(family):
            images = data.load(f"{family}-mini", "test")
            assert images.size == canvas
            assert (images.bends is None) == (moves.bend == 0)
            spread = poses.decompose(images.maps)["degrees"].abs().max()
            assert 0.9 * moves.degrees <= spread <= moves.degrees + 1e-3
            assert 0.9 * moves.shift <= images.maps[..., 2].abs().max() <= moves.shift


def test_the_bend_that_is_kept_is_the_one_that_a_picture_got():
    upright = ellipses(3)
    images = moved.moved(upright, Moves(bend=1.5), seed=3)
    assert images.bends.shape == (3, 18)
    assert 1 < images.bends.abs().max() <= 1.5
    rows, columns = upright.size
    pixels = torch.tensor([columns / 2, rows / 2]).repeat_interleave(9)  # all x, then all y
    warp = warps.make_warp("tps", upright.size)
    torch.testing.assert_close(images.x, warp(upright.x, images.bends / pixels), atol=3e-3, rtol=0)
    chosen = torch.tensor([2, 0])
    assert images[chosen].bends.equal(images.bends[chosen])
    assert moved.moved(upright, Moves(shift=1)).bends is None
    with pytest.raises(ValueError, match="bent images cannot be moved"):
        moved.moved(images, Moves(shift=1))


def test_a_subset_keeps_its_poses():
    images = data.load("letters", "test")
    rows = torch.tensor([5, 2, 11])
    assert torch.equal(images[rows].maps, images.maps[rows])
    assert torch.equal(images[3:7].maps, images.maps[3:7])
    assert torch.equal(images.to("cpu").maps, images.maps)
    assert data.load("mini", "test")[rows].maps is None


def test_moved_pictures_that_cannot_be_loaded_fall_back_on_the_bundled_ones(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TVAE_DATA", str(tmp_path))
    monkeypatch.setattr(data, "_fetch", lambda raw, name: (_ for _ in ()).throw(ConnectionError))
    found = data.load("moved-mnist", "test", fallback="mini")
    assert found.name.startswith("mini, moved")
    assert "Continuing with 'mini'" in capsys.readouterr().out
