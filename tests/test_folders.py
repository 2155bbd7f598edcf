"""A folder of pictures as images: ten awkward folders, and what is done to a picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from tvae_core.own import folders, from_folder


def disc(height: int, width: int, thing: int = 220, ground: int = 20) -> np.ndarray:
    """A disc on a ground, whose radius is a quarter of the shorter side."""
    y, x = np.mgrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2
    return np.where(inside, thing, ground).astype(np.uint8)


def save(array: np.ndarray, path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


# The ten awkward folders.


def test_one_image(tmp_path):
    save(disc(40, 30), tmp_path / "one.png")
    found = from_folder(tmp_path)
    assert found.images.pixels.shape == (1, 1, 40, 30)
    assert found.files == ("one.png",)
    assert found.images.name == tmp_path.name
    assert (found.classes, found.skipped, found.changed) == ((), {}, {})
    assert found.images.labels is None
    assert found.summary() == "1 image of 40 x 30 pixels"


def test_two_sizes(tmp_path):
    save(disc(20, 20), tmp_path / "a.png")
    save(disc(30, 10), tmp_path / "b.png")
    found = from_folder(tmp_path)
    assert found.images.size == (30, 30)
    # Neither is enlarged: the areas of the discs are those of the files.
    assert found.images.x.sum((1, 2, 3)).tolist() == [
        (disc(20, 20) > 99).sum(),
        (disc(30, 10) > 99).sum(),
    ]
    centre = (
        (torch.arange(30.0) + 0.5) @ found.images.x[:, 0].sum(1).T / found.images.x.sum((1, 2, 3))
    )
    assert centre.tolist() == pytest.approx([15, 15], abs=0.51)


@pytest.mark.parametrize("shade", [0, 255])
def test_transparent(tmp_path, shade):
    """What is not transparent is the thing, whether it is black or white."""
    alpha = disc(20, 20, 255, 0)
    save(np.dstack([np.full((20, 20, 3), shade, np.uint8), alpha]), tmp_path / "cut out.png")
    save(disc(20, 20), tmp_path / "plain.png")
    found = from_folder(tmp_path)
    assert found.changed == {"cut out.png": "transparent parts filled"}
    assert found.images.pixels[0].equal(found.images.pixels[1])
    assert found.images.pixels[0, 0].numpy().tolist() == alpha.tolist()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_one_colour_may_be_transparent_without_an_alpha_channel(tmp_path, mode):
    """A black disc on white paper that is transparent, and one on paper that is not."""
    paper = disc(20, 20, 0, 255)
    picture = Image.fromarray(paper).convert(mode)
    clear = picture.getpixel((0, 0))
    picture.save(tmp_path / "clear.png", transparency=clear)
    picture.save(tmp_path / "paper.png")
    with Image.open(tmp_path / "clear.png") as image:
        assert image.mode == mode
    found = from_folder(tmp_path)
    assert found.changed == {"clear.png": "transparent parts filled"}
    assert found.images.pixels[0].equal(found.images.pixels[1])


def test_transparent_pictures_are_looked_at_one_by_one(tmp_path):
    """A dark thing on transparent ground, beside bright ones, as a file of each kind."""
    for i in range(5):
        save(disc(20, 20), tmp_path / f"bright {i}.png")
    dark = np.dstack([np.zeros((20, 20, 3), np.uint8), disc(20, 20, 255, 0)])
    save(dark, tmp_path / "cut out.png")
    frames = [Image.fromarray(dark), Image.fromarray(np.rot90(dark))]
    frames[0].save(tmp_path / "pages.tiff", save_all=True, append_images=frames[1:])
    np.save(tmp_path / "stack.npy", dark[None])
    found = from_folder(tmp_path)
    assert len(found) == 8
    assert not found.skipped
    assert found.changed["stack.npy[0]"] == "transparent parts filled"
    assert found.changed["pages.tiff"].startswith("transparent parts filled; 2 frames")


@pytest.mark.parametrize("shape", [(9, 12, 3), (9, 12, 4)])
def test_one_coloured_picture_in_an_array(tmp_path, shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[3:6, 4:8] = 255
    np.save(tmp_path / "one.npy", pixels)
    found = from_folder(tmp_path, size=(9, 12))
    assert found.files == ("one.npy[0]",)
    assert found.images.pixels.shape == (1, 1, 9, 12)


def test_sixteen_bits(tmp_path):
    """Shades of a camera with 12 bits, of which Pillow alone would make black."""
    save(disc(20, 20).astype(np.uint16) * 10 + 100, tmp_path / "a.tif")
    save(disc(20, 20).astype(np.float32), tmp_path / "b.tif")
    found = from_folder(tmp_path)
    assert found.changed["a.tif"] == "I;16 values, scaled from 300 to 2300"
    assert found.images.pixels[0].equal(found.images.pixels[1])
    assert found.images.pixels[0].unique().tolist() == [0, 255]


def test_a_corrupt_file(tmp_path):
    save(disc(20, 20), tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "noise.jpg").write_bytes(b"noise")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "noise.npy").write_bytes(b"noise")
    found = from_folder(tmp_path)
    assert found.files == ("good.png",)
    assert found.skipped["noise.jpg"] == "damaged, or not a picture in spite of its ending"
    assert found.skipped["empty.jpg"] == "an empty file"
    assert found.skipped["cut.png"].startswith("cannot be read as a picture (")
    assert found.skipped["noise.npy"].startswith("not an array of pictures (")


def test_a_text_file(tmp_path):
    save(disc(20, 20), tmp_path / "good.png")
    (tmp_path / "notes.txt").write_text("cells", encoding="utf-8")
    (tmp_path / ".DS_Store").write_text("", encoding="utf-8")
    save(disc(20, 20), tmp_path / ".thumbnails" / "good.png")
    found = from_folder(tmp_path)
    assert found.files == ("good.png",)
    assert found.skipped == {"notes.txt": "not a picture (.txt)"}
    assert found.summary().endswith("\n  left out: notes.txt: not a picture (.txt)")


def test_unicode_and_blanks_in_names(tmp_path):
    names = ("Zelle 2.png", "Zelle 10.PNG", "Größe ½ 細胞.jpg")
    for name in names:
        save(disc(20, 20), tmp_path / name)
    assert from_folder(tmp_path).files == ("Größe ½ 細胞.jpg", "Zelle 2.png", "Zelle 10.PNG")


def test_nested_classes(tmp_path):
    for name in ("oak/a.png", "oak/young/a.png", "elm/a.png", "elm/b.png"):
        save(disc(20, 20), tmp_path / name)
    found = from_folder(tmp_path)
    assert found.files == ("elm/a.png", "elm/b.png", "oak/a.png", "oak/young/a.png")
    assert found.classes == ("elm", "oak", "oak/young")
    assert found.images.labels.tolist() == [0, 0, 1, 2]
    assert found.summary() == "4 images of 20 x 20 pixels in 3 folders: elm, oak, oak/young"


def test_enormous(tmp_path, monkeypatch):
    save(disc(5000, 5000), tmp_path / "large.png")
    assert from_folder(tmp_path).images.size == (64, 64)
    share = from_folder(tmp_path).images.x.mean().item()
    assert share == pytest.approx(np.pi / 16, rel=0.02)
    save(disc(20, 20), tmp_path / "small.png")
    monkeypatch.setattr(folders, "MOST_PIXELS", 24_000_000)
    assert from_folder(tmp_path).skipped == {
        "large.png": "5,000 x 5,000 pixels: more than 24,000,000 in all; shrink it"
    }


def test_all_black(tmp_path):
    save(np.zeros((20, 20), np.uint8), tmp_path / "black.png")
    with pytest.raises(ValueError, match=r"no picture that can be used(.|\n)*black.png: one shade"):
        from_folder(tmp_path)
    save(disc(20, 20), tmp_path / "disc.png")
    found = from_folder(tmp_path)
    assert found.skipped == {"black.png": "one shade only, so it shows nothing that has a pose"}
    assert found.files == ("disc.png",)


# More of what is read.


def test_of_an_animation_the_first_frame(tmp_path):
    more = [Image.fromarray(disc(20, 20, 90))]
    save(disc(20, 20), tmp_path / "moving.gif", save_all=True, append_images=more)
    save(disc(20, 20), tmp_path / "pages.tif", save_all=True, append_images=more)
    found = from_folder(tmp_path)
    assert [*found.changed.values()] == ["2 frames or pages, of which only the first is used"] * 2
    assert found.images.x.amax((1, 2, 3)).tolist() == [1, 1]


def test_a_camera_that_was_turned(tmp_path):
    exif = Image.Exif()
    exif[folders.ORIENTATION] = 6
    save(disc(20, 30), tmp_path / "a.jpg", exif=exif)
    assert from_folder(tmp_path).images.size == (30, 20)


@pytest.mark.parametrize(
    "shaped",
    [lambda a: a, lambda a: a[:, None], lambda a: a[..., None], lambda a: np.stack([a] * 3, -1)],
)
def test_arrays(tmp_path, shaped):
    stack = np.stack([disc(20, 24), disc(20, 24).T[:20, :20].repeat(2, 1)[:, :24]])
    np.save(tmp_path / "a.npy", shaped(stack))
    np.savez(tmp_path / "b.npz", labels=np.arange(9_999), images=shaped(stack))
    found = from_folder(tmp_path)
    assert found.files == ("a.npy[0]", "a.npy[1]", "b.npz[0]", "b.npz[1]")
    assert found.images.size == (20, 24)
    assert found.images.pixels[:2].equal(found.images.pixels[2:])
    assert found.images.pixels[0, 0].numpy().tolist() == disc(20, 24, 255, 0).tolist()


def test_integers_of_any_size_keep_their_shades(tmp_path):
    wide = np.linspace(-19_999, 20_000, 2 * 12 * 12).reshape(2, 12, 12)
    found = {}
    for kind, stack in {"int32": wide, "int16": wide, "int8": wide / 200}.items():
        (tmp_path / kind).mkdir()
        np.save(tmp_path / kind / "a.npy", stack.astype(kind))
        found[kind] = from_folder(tmp_path / kind, contrast="keep").images.pixels.int()
    assert len(found["int32"].unique()) > 200
    assert found["int16"].equal(found["int32"])
    assert (found["int8"] - found["int32"]).abs().max() <= 2


def test_the_values_of_arrays(tmp_path):
    on = disc(20, 20) > 99
    np.save(tmp_path / "a.npy", on)
    np.save(tmp_path / "b.npy", on * 0.5 + 0.2)
    np.save(tmp_path / "c.npy", np.stack([on * 300 - 7, on * 100 - 7]))
    broken = on * 1.0
    broken[3, 3] = np.nan
    np.save(tmp_path / "d.npy", np.stack([broken, on]))
    np.save(tmp_path / "e.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "f.npy", np.zeros(3))
    save(broken.astype(np.float32), tmp_path / "g.tif")
    found = from_folder(tmp_path, contrast="keep")
    assert found.skipped["g.tif"] == found.skipped["d.npy[0]"]
    highest = found.images.pixels.amax((1, 2, 3)).tolist()
    assert highest == [255, 178, 255, 85, 255]
    assert found.changed["c.npy[1]"] == "int64 values, scaled from -7 to 293"
    assert found.skipped["d.npy[0]"] == "it holds NaN or infinite values"
    assert found.skipped["e.npy"].startswith("not an array of pictures (")
    assert "its shape is (3,), not (N, H, W)" in found.skipped["f.npy"]


# What is done to a picture.


def test_the_size(tmp_path, subtests):
    save(disc(200, 100), tmp_path / "a.png")
    for options, size in {(): (64, 32), (48,): (48, 48), ((30, 50),): (30, 50)}.items():
        with subtests.test(size):
            assert from_folder(tmp_path, *options).images.size == size
    for size in (3, 129, (64, 200)):
        with subtests.test(size), pytest.raises(ValueError, match="size must be from 4 to 128"):
            from_folder(tmp_path, size)


def test_pad_crop_and_stretch(tmp_path):
    """The share of the image that the disc takes, and its extent along both axes."""
    save(disc(40, 20), tmp_path / "a.png")
    found = {}
    for fit in folders.FITS:
        x = from_folder(tmp_path, 20, fit).images.x[0, 0] > 0.5
        found[fit] = int(x.any(1).sum()), int(x.any(0).sum())
    assert found == {"pad": (5, 5), "crop": (9, 9), "stretch": (5, 9)}


def test_the_filling_has_the_shade_of_the_border(tmp_path):
    save(disc(40, 20, ground=120), tmp_path / "a.png")
    x = from_folder(tmp_path, 40, invert=False, contrast="keep").images.pixels[0, 0]
    assert x.unique().tolist() == [120, 220]


def test_dark_things_on_a_bright_ground_are_inverted_if_most_are(tmp_path):
    for i in range(3):
        save(disc(20, 20, 20, 220), tmp_path / f"{i}.png")
    save(disc(20, 20), tmp_path / "odd.png")
    found = from_folder(tmp_path)
    assert found.files == ("0.png", "1.png", "2.png")
    assert found.images.pixels[0, 0].numpy().tolist() == disc(20, 20, 255, 0).tolist()
    assert found.skipped["odd.png"].startswith("no brighter than its border, unlike most others")
    assert from_folder(tmp_path, invert=False).files == ("odd.png",)
    kept = from_folder(tmp_path, invert=True, contrast="keep").images.pixels
    assert kept[0].unique().tolist() == [35, 235]
    assert kept[3].unique().tolist() == [35, 235]
    assert kept[3].float().mean() > kept[0].float().mean()


def test_contrast_sets_the_border_to_black_and_the_brightest_to_white(tmp_path):
    picture = disc(20, 20, 140, 100)
    picture[5, 5] = 60  # darker than the border
    save(picture, tmp_path / "a.png")
    x = from_folder(tmp_path).images.pixels[0, 0]
    assert x.unique().tolist() == [0, 255]
    assert x[5, 5] == 0
    assert (x > 0).sum() == (picture == 140).sum()


# Colour.


def in_colour(shape: np.ndarray, thing=(200, 60, 20), ground=(20, 20, 20)) -> np.ndarray:
    """A thing on a ground, where `shape` is not 0."""
    return np.where(shape[..., None] > 0, thing, ground).astype(np.uint8)


def test_colours_are_kept_if_asked_for_and_the_ground_becomes_black(tmp_path):
    on = disc(20, 24, 1, 0)
    save(in_colour(on), tmp_path / "a.png")
    save(disc(20, 24), tmp_path / "b gray.png")
    save(np.dstack([in_colour(on), 255 * on]), tmp_path / "c cut out.png")
    np.save(tmp_path / "d.npy", in_colour(on)[None])
    np.save(tmp_path / "e.npy", np.moveaxis(in_colour(on), -1, 0)[None])
    np.save(tmp_path / "f.npy", disc(20, 24))
    found = from_folder(tmp_path, channels=3)
    assert found.images.pixels.shape == (6, 3, 20, 24)
    # 255 (shade - 20) / (200 - 20) of each channel, in 256 levels.
    assert found.images.pixels[0][:, 10, 12].tolist() == [255, 57, 0]
    assert found.images.pixels[0].amax(0).numpy().tolist() == (255 * on).tolist()
    assert found.images.pixels[1].numpy().tolist() == [(255 * on).tolist()] * 3
    # With its black paper, the ground is 0 and not 20.
    assert found.images.pixels[2][:, 10, 12].tolist() == [255, round(255 * 60 / 200), 26]
    assert found.images.pixels[3].equal(found.images.pixels[0])
    assert found.images.pixels[4].equal(found.images.pixels[0])
    assert found.images.pixels[5].equal(found.images.pixels[1])


def test_colours_are_resized_and_padded_one_channel_at_a_time(tmp_path):
    on = disc(40, 20, 1, 0)
    save(in_colour(on), tmp_path / "a.png")
    x = from_folder(tmp_path, 20, channels=3, contrast="keep").images.pixels[0]
    shares = (x.float() - 20).clamp(min=0).sum((1, 2)) / torch.tensor([180.0, 40.0, 1])
    assert x[:, 0, 0].tolist() == [20, 20, 20]
    assert shares[0].item() == pytest.approx(on.sum() / 4, rel=0.05)
    assert shares[1].item() == pytest.approx(on.sum() / 4, rel=0.1)
    assert shares[2] == 0


def test_dark_colours_on_a_bright_ground_become_their_complements(tmp_path):
    save(in_colour(disc(20, 20, 1, 0), (200, 60, 20), (240, 240, 240)), tmp_path / "a.png")
    x = from_folder(tmp_path, channels=3).images.pixels[0]
    assert x[:, 0, 0].tolist() == [0, 0, 0]
    assert x[:, 10, 10].tolist() == [46, 209, 255]


def test_a_jpeg_in_colour(tmp_path):
    save(in_colour(disc(64, 64, 1, 0)), tmp_path / "a.jpg", quality=95)
    x = from_folder(tmp_path, channels=3).images.x[0]
    assert x[:, 32, 32].tolist() == pytest.approx([1, 40 / 180, 0], abs=0.05)


def test_files_and_classes_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("cell 10/b.png", "cell 9/a10.png", "cell 9/a2.png", "cell 9/a1.png"):
        save(disc(10, 10), tmp_path / name)
    found = from_folder(tmp_path)
    assert found.files == ("cell 9/a1.png", "cell 9/a2.png", "cell 9/a10.png", "cell 10/b.png")
    assert found.classes == ("cell 9", "cell 10")


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"channels must be 1 \(gray\) or 3 .*got 2"):
        from_folder(tmp_path, channels=2)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no picture that can be used; it needs files .*\.png"):
        from_folder(tmp_path)
    with pytest.raises(ValueError, match="unknown fit 'squeeze'; known: pad, crop, stretch"):
        from_folder(tmp_path, fit="squeeze")
    with pytest.raises(ValueError, match="unknown contrast"):
        from_folder(tmp_path, contrast="high")


def test_a_file_that_is_left_out_does_not_decide_on_the_size(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(3):
        save(generator.integers(0, 255, (24, 20), dtype=np.uint8), tmp_path / f"{i}.png")
    save(np.full((100, 60), 9, dtype=np.uint8), tmp_path / "cover.png")
    found = from_folder(tmp_path)
    assert found.images.size == (24, 20)
    assert [*found.skipped] == ["cover.png"]
    assert found.summary().startswith("3 images of 24 x 20 pixels")


def test_pictures_that_all_show_nothing_are_listed(tmp_path):
    dark = np.full((12, 12), 255, dtype=np.uint8)
    dark[5:7, 5:7] = 0  # dark on bright, and not inverted
    for i in range(2):
        save(dark, tmp_path / f"{i}.png")
    with pytest.raises(
        ValueError, match=r"(?s)has no picture that can be used.*0\.png: no brighter"
    ):
        from_folder(tmp_path, invert=False)
