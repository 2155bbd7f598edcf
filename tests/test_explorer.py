"""The live sliders: what they show is what the model gives."""

import io

import pytest
import torch
from PIL import Image

from tvae_core import explorer, models
from tvae_core.runtime import seeded


@pytest.fixture
def model():
    with seeded(0):
        return models.build("affine", size=(8, 12), dim_z=3, hidden=(16,))


def picture(box):
    return Image.open(io.BytesIO(box.children[1].value))


def sliders(box):
    return box.children[0].children[:-1]


def test_one_slider_for_each_u_starting_where_u_is(model, monkeypatch):
    monkeypatch.setattr(explorer, "is_live", lambda: True)
    latents = torch.linspace(-1, 1, 9)
    box = explorer.turn_pose(model, latents)
    assert [slider.value for slider in sliders(box)] == pytest.approx(latents[3:].tolist())
    assert picture(box).size == (2 * 12 * explorer.SCALE, 8 * explorer.SCALE)


def test_a_slider_moves_the_warped_image_and_not_the_canonical_one(model, monkeypatch):
    monkeypatch.setattr(explorer, "is_live", lambda: True)
    box = explorer.turn_pose(model, torch.zeros(9))
    before = picture(box)
    sliders(box)[0].value = 3.0
    after = picture(box)
    middle = before.width // 2
    canonical, warped = (0, 0, middle, before.height), (middle, 0, before.width, before.height)
    assert before.crop(canonical).tobytes() == after.crop(canonical).tobytes()
    assert before.crop(warped).tobytes() != after.crop(warped).tobytes()
    box.children[0].children[-1].click()
    assert picture(box).tobytes() == before.tobytes()


def test_elsewhere_it_says_where_the_sliders_would_be(model, capsys):
    assert explorer.turn_pose(model, torch.zeros(9)) is None
    assert "6 sliders" in capsys.readouterr().out


def test_a_model_without_a_warp_is_refused():
    with pytest.raises(TypeError, match="no warp"):
        explorer.turn_pose(models.build("plain"), torch.zeros(60))
