"""How poses are compared with the true ones, and registration on pictures whose pose is known."""

import json

import galaxies
import numpy as np
import own_images
import pytest
import torch
from tables import own

from tvae_core import data, poses
from tvae_core.moved import Moves, glyphs

LABELS = torch.tensor([0, 0, 0, 1, 1, 1])


def columns(**changes) -> dict[str, torch.Tensor]:
    zeros = {name: torch.zeros(6) for name in ("degrees", "shift_x", "shift_y")}
    return {**zeros, "scale_x": torch.ones(6), **changes}


def test_what_a_class_has_in_common_is_no_error():
    found = columns(
        degrees=torch.tensor([170.0, 170, -190, 30, 30, 40]),
        shift_x=torch.tensor([1.0, 1, 1, 2, 5, 2]),
        shift_y=torch.tensor([3.0, 3, 3, 0, 4, 0]),
        scale_x=torch.tensor([2.0, 2, 1, 3, 3, 3]),
    )
    wrong = own_images.errors(found, columns(), LABELS)
    assert wrong["degrees"].tolist() == pytest.approx([0, 0, 0, 0, 0, 10], abs=1e-4)
    assert wrong["shift"].tolist() == pytest.approx([0, 0, 0, 0, 5, 0])
    assert wrong["scale"].tolist() == pytest.approx([0, 0, 0.6931, 0, 0, 0], abs=1e-4)


def test_turns_of_359_degrees_and_of_1_degree_are_2_degrees_from_each_other():
    found = columns(degrees=torch.tensor([359.0, 0, 0, 0, 0, 0]))
    true = columns(degrees=torch.tensor([1.0, 0, 0, 0, 0, 0]))
    wrong = own_images.errors(found, true, LABELS)["degrees"]
    assert wrong.tolist() == pytest.approx([2, 0, 0, 0, 0, 0], abs=1e-4)


def test_a_class_may_lie_upside_down_and_its_median_does_not_jump_there():
    # Around half a turn: 179, 181, and 178 degrees, whose median is 179.
    found = columns(degrees=torch.tensor([179.0, -179, 178, -10, -20, 175]))
    wrong = own_images.errors(found, columns(), LABELS)["degrees"]
    # Of the other class the median is -20; from there to 175 it is 165 degrees the other way round.
    assert wrong.tolist() == pytest.approx([0, 2, 1, 10, 0, 165], abs=1e-4)


def test_no_turn_is_wrong_by_more_than_half_a_turn():
    found = {
        "degrees": torch.tensor([60.0, 60, 60, 60, -60, -60, -140]),
        **{name: torch.zeros(7) for name in ("shift_x", "shift_y")},
        "scale_x": torch.ones(7),
    }
    true = {**found, "degrees": torch.zeros(7)}
    wrong = own_images.errors(found, true, torch.zeros(7))["degrees"]
    assert wrong.tolist() == pytest.approx([0, 0, 0, 0, 120, 120, 160], abs=1e-4)


def test_an_axis_has_no_direction():
    found = columns(degrees=torch.tensor([5.0, 185, -175, 0, 0, 80]))
    assert own_images.errors(found, columns(), LABELS, turn=180)[
        "degrees"
    ].tolist() == pytest.approx([0, 0, 0, 0, 0, 80], abs=1e-4)


def test_registration_finds_the_pose_of_letters_in_known_poses():
    pytest.importorskip("skimage", reason="tools/own_images.py needs scikit-image")
    some = glyphs(60, Moves(degrees=40, shift=3, scale=1.25), height=14)
    upright = glyphs(60, Moves(), height=14)
    found = own_images.registered(some, upright)
    true = poses.decompose(some.maps)
    # Without a class's median taken off: the template says what is upright.
    for unit, most in {"degrees": 3, "shift_x": 1, "shift_y": 1}.items():
        off = (found[unit] - true[unit]).abs().median()
        assert off < most < (-found[unit] - true[unit]).abs().median(), unit
    wrong = (found["scale_x"] / true["scale_x"]).log().abs().median()
    nothing, inverse = true["scale_x"].log(), (found["scale_x"] * true["scale_x"]).log()
    assert wrong < 0.07 < 0.09 < nothing.abs().median() < inverse.abs().median()


def test_the_table_has_a_row_for_each_set_and_way(monkeypatch, tmp_path):
    """Errors that differ by set, way and unit; each is the mean of two seeds."""

    def unit(number: float) -> dict[str, float]:
        return {"median": number, "p90": 2 * number}

    found = {
        name: [
            {
                "errors": {
                    way: {
                        "degrees": unit(10 * i + j + off),
                        "shift": unit(0.1 * (10 * i + j + off)),
                        "scale": unit(0.01 * (10 * i + j + off)),
                    }
                    for j, way in enumerate(("model", "moments", "registration", "new"), 1)
                }
            }
            for off in (-5, 5)
        ]
        for i, name in enumerate(("glyphs", "digits"), 1)
    }
    (tmp_path / "own_images.json").write_text(json.dumps(found), encoding="utf-8")
    monkeypatch.setattr(own, "RECORD", tmp_path / "own_images.json")
    head, *rows = own.own_images_table().rows
    assert head == ["set", "poses by", "turn (degrees)", "shift (pixels)", "scale (%)"]
    assert rows[0] == ["letters", "the command", "11.0 (22.0)", "1.10 (2.20)", "11 (22)"]
    assert rows[1][1:3] == ["the command, on new pictures (`--model`)", "14.0 (28.0)"]
    assert rows[2] == ["letters", "moments of the ink", "12.0 (24.0)", "1.20 (2.40)", "12 (24)"]
    assert rows[7][:3] == ["digits", "registration to the class's upright mean", "23.0 (46.0)"]
    monkeypatch.setattr(own, "RECORD", tmp_path / "none.json")
    assert not own.own_images_table().any_record


def test_the_table_of_settings_has_means_and_deviations_over_seeds(monkeypatch, tmp_path):
    def run(off: float) -> dict:
        units = {"degrees": 2.0, "shift": 0.4, "scale": 0.03}
        errors = {unit: {"median": value * off} for unit, value in units.items()}
        return {"errors": {"model": errors, "new": {"degrees": {"median": 5 * off}}}}

    found = {"normal": [run(2)], "default": [run(0.9), run(1.1)]}
    (tmp_path / "own_settings.json").write_text(json.dumps(found), encoding="utf-8")
    monkeypatch.setattr(own, "OTHERS", tmp_path / "own_settings.json")
    assert own.own_settings_table().rows[1:] == [
        ["the default", "2", "2.0 ± 0.3", "0.40 ± 0.06", "3.0 ± 0.4", "5.0 ± 0.7"],
        ["`--likelihood normal`", "1", "4.0", "0.80", "6.0", "10.0"],
    ]


# The real set.


def test_each_galaxy_gets_a_picture_in_which_all_else_is_dark():
    sky = np.full((60, 60), 0.02)
    sky[20:26, 20:26] = 0.4  # large enough
    sky[20:26, 30:36] = 0.3  # and its neighbour, which begins in the same square
    sky[50, 50] = 0.4  # too small
    sky[0:6, 40:46] = 0.4  # at the edge
    first, second = galaxies.cut(sky)
    assert first.shape == second.shape == (galaxies.SIDE, galaxies.SIDE)
    for picture, shade in ((first, 0.4), (second, 0.3)):
        rows, columns = (picture > 0.1).nonzero()
        assert {*picture[rows, columns]} == {shade}
        assert len(rows) == 36
        assert rows.mean() == pytest.approx(galaxies.SIDE / 2 - 0.5, abs=0.51)
        assert columns.mean() == pytest.approx(galaxies.SIDE / 2 - 0.5, abs=0.51)


def test_long_things_and_their_directions():
    pytest.importorskip("skimage", reason="tools/galaxies.py needs scikit-image")
    x = torch.zeros(4, 1, 32, 32)
    x[0, :, 15:17, 8:24] = 1  # across
    x[1, :, 8:24, 15:17] = 1  # upright
    x[2, :, 8:24, 15:17] = 1
    x[3, :, 14:22, 14:22] = 1  # a square
    images = data.from_tensor(x)
    chosen = galaxies.long_ones(images)
    assert chosen.tolist() == [True, True, True, False]
    assert galaxies.off_axis(images, chosen).tolist() == pytest.approx([90, 0, 0], abs=0.1)
    off = galaxies.off_centre(images)
    assert off.tolist() == pytest.approx([0.5**0.5] * 3 + [1.5 * 2**0.5], abs=1e-3)
