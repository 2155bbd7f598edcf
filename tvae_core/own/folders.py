"""A folder of pictures as images: what is read, how it is prepared, and what is left out and why.

What happens to a picture, in this order:

1. It is read: the first frame of an animation or a file of several pages, upright if a camera
   turned it. 16-bit and floating-point values are scaled from the picture's (for an array, from
   the whole file's) own range.
2. Colour becomes gray, or with `channels=3` gray becomes colour. Transparent parts become white
   behind dark things, and black behind bright ones.
3. It gets the set's size, by `fit`: "pad" shrinks it until it fits, never enlarges it, and fills
   up with the shade of its border; "crop" scales it until it fills the size and cuts off the rest
   on both sides alike; "stretch" ignores its proportions.
4. With `invert`, dark and bright are exchanged. By default that is done if most pictures have a
   border brighter than their mean, because a model's background is black. Pictures with
   transparent parts are looked at one by one. Colours become their complements.
5. With `contrast="stretch"`, the shade of its border becomes black and its brightest pixel white;
   with "keep" its shades stay as they are. In colour, the shade of the border is taken off each
   channel, and the brightest value of any channel becomes 255.

Pictures that cannot be used are left out, each with a sentence that says why.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from tvae_core.checks import check_known
from tvae_core.data import Images
from tvae_core.runtime import is_live

FITS = ("pad", "crop", "stretch")
CONTRASTS = ("stretch", "keep")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
ARRAYS = (".npy", ".npz")
CHANNELS = (1, 3)
USUAL = 64  # pixels: the longest side, unless a size is given
LARGEST = 128
FILLED = "transparent parts filled"
MOST_PIXELS = 100_000_000  # of one picture: 400 MB while it is shrunk
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, height and width are exchanged

Array = NDArray[Any]


@dataclass(frozen=True)
class Folder:
    """Images of a folder, and where each came from.

    `files[i]` is the path of image i within the folder; a picture of an array ends in its index,
    as in "cells.npy[12]". If there are subfolders, label i stands for the folder `classes[i]`.
    `skipped` says why each file was left out, and `changed` what had to be done to other files.
    """

    images: Images
    files: Sequence[str]
    classes: Sequence[str]
    skipped: dict[str, str]
    changed: dict[str, str]

    def __len__(self) -> int:
        return len(self.images)

    def summary(self) -> str:
        """What was found, in a few lines."""
        height, width = self.images.size
        things = "1 image" if len(self) == 1 else f"{len(self):,} images"
        lines = [f"{things} of {height} x {width} pixels"]
        if self.classes:
            lines[0] += f" in {len(self.classes)} folders: {_some(self.classes)}"
        for what, files in (("left out", self.skipped), ("changed", self.changed)):
            reasons: dict[str, list[str]] = {}
            for file, reason in files.items():
                reasons.setdefault(reason, []).append(file)
            lines += [f"  {what}: {_some(of)}: {why}" for why, of in reasons.items()]
        return "\n".join(lines)


class _Picture(NamedTuple):
    name: str
    shades: Array  # (H, W, channels), from 0 to 1
    remark: str


class _UnusableError(Exception):
    """Why a file, or one picture of it, cannot be used."""


def from_folder(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    fit: str = "pad",
    invert: bool | None = None,
    contrast: str = "stretch",
    channels: int = 1,
) -> Folder:
    """All pictures in a folder and its subfolders, as gray images of one size, or coloured ones.

    Reads PNG, JPEG, TIFF, BMP, GIF, WebP, and arrays in .npy or .npz files: (H, W), (N, H, W),
    (N, 1 or 3, H, W) or with colours last. `channels` is 1 for gray and 3 for colour. `size` is
    (height, width), or the side of a square, up to 128 pixels. By default it is the pictures' own
    if they share one, and else a square of the longest side; either is shrunk to at most 64 pixels.
    `fit`, `invert` and `contrast` are explained at the top of this module.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no picture that can be used, or an unknown or impossible option.
    """
    check_known("fit", fit, FITS)
    check_known("contrast", contrast, CONTRASTS)
    if channels not in CHANNELS:
        raise ValueError(f"channels must be 1 (gray) or 3 (red, green, blue), got {channels}")
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    skipped: dict[str, str] = {}
    changed: dict[str, str] = {}
    found = _files(folder, skipped)
    target = _target(found, size)
    names, kept, alone = [], [], []
    for name, file in tqdm(found.items(), desc="reading", unit="file", disable=not is_live()):
        try:
            for picture in _pictures(name, file, channels):
                if not np.isfinite(picture.shades).all():
                    skipped[picture.name] = "it holds NaN or infinite values"
                    continue
                shades = _fitted(picture.shades, target, fit)
                if np.ptp(shades) == 0:
                    skipped[picture.name] = "one shade only, so it shows nothing that has a pose"
                    continue
                if picture.remark:
                    changed[picture.name] = picture.remark
                if contrast == "stretch":  # now, while there are more than 256 shades
                    shades = _stretched(shades)
                names.append(picture.name)
                alone.append(picture.remark.startswith(FILLED))
                kept.append(np.rint(255 * shades).astype(np.uint8))
        except _UnusableError as error:
            skipped[name] = str(error)
    if not kept:
        raise _nothing_to_use(folder, skipped)
    usable = {name: file for name, file in found.items() if name not in skipped}
    skipping = size is None and len(usable) < len(found)  # what is left out decides on nothing
    if skipping and (without := _target(usable, None)) != target:
        return from_folder(path, without, fit, invert, contrast, channels)
    pixels = np.stack(kept)
    inverted = np.full(len(pixels), invert)
    if invert is None:
        on_bright = _borders(pixels).mean(1) > pixels.mean((1, 2, 3))
        inverted = np.where(alone, on_bright, on_bright.mean() > 0.5)
    pixels[inverted] = 255 - pixels[inverted]
    if contrast == "stretch":
        _from_black(pixels)
    seen = pixels.reshape(len(pixels), -1).max(1) > 0
    why = "no brighter than its border, unlike most others; invert it, or leave it out"
    skipped |= {name: why for name, is_seen in zip(names, seen, strict=True) if not is_seen}
    if not seen.any():
        raise _nothing_to_use(folder, skipped)
    names = [name for name, is_seen in zip(names, seen, strict=True) if is_seen]
    classes, labels = _classes(names)
    kept_pixels = torch.from_numpy(pixels[seen]).movedim(-1, 1).contiguous()
    images = Images(kept_pixels, labels, folder.resolve().name)
    changed = {name: remark for name, remark in changed.items() if name not in skipped}
    return Folder(images, tuple(names), classes, skipped, changed)


def _nothing_to_use(folder: Path, skipped: dict[str, str]) -> ValueError:
    return ValueError(
        f"{folder} has no picture that can be used; it needs files that end in "
        f"{', '.join((*PICTURES, *ARRAYS))}"
        + "".join(f"\n  {name}: {why}" for name, why in [*skipped.items()][:10])
    )


def _files(folder: Path, skipped: dict[str, str]) -> dict[str, Path]:
    """The files to read, by their path within the folder, in the order of their numbers."""
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(root, file)
            name = path.relative_to(folder).as_posix()
            if file.startswith("."):
                continue
            if path.suffix.lower() in (*PICTURES, *ARRAYS):
                found[name] = path
            else:
                skipped[name] = f"not a picture ({path.suffix or 'no ending'})"
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _target(found: dict[str, Path], size: tuple[int, int] | int | None) -> tuple[int, int]:
    """Height and width that all images will have."""
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        if not 4 <= min(height, width) <= max(height, width) <= LARGEST:
            raise ValueError(
                f"size must be from 4 to {LARGEST} pixels, got {height} x {width}; a model of "
                "larger images would take hours, and a pose needs few pixels"
            )
        return height, width
    shapes = {shape for file in found.values() if (shape := _shape(file)) is not None}
    height, width = shapes.pop() if len(shapes) == 1 else (max(map(max, shapes), default=4),) * 2
    shrink = min(1.0, USUAL / max(height, width))
    return max(4, round(height * shrink)), max(4, round(width * shrink))


def _shape(file: Path) -> tuple[int, int] | None:
    """Height and width of a file's pictures, from its head; None if it cannot be read."""
    try:
        if file.suffix.lower() in ARRAYS:
            height, width = _as_stack(_array(file)).shape[1:3]
            return height, width
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore")
            width, height = image.size
            return (width, height) if image.getexif().get(ORIENTATION, 1) > 4 else (height, width)
    except Exception:  # reported when the file is read
        return None


def _pictures(name: str, file: Path, channels: int) -> Iterator[_Picture]:
    """The pictures of a file, in shades from 0 to 1."""
    if file.suffix.lower() not in ARRAYS:
        yield _Picture(name, *_decoded(file, channels))
        return
    try:
        stack = _as_stack(_array(file))
    except Exception as error:  # numpy and zipfile raise many kinds
        raise _UnusableError(f"not an array of pictures ({_line(error)})") from error
    scale, remark = (0.0, 255.0), ""
    if stack.dtype == bool:
        scale = 0.0, 1.0
    elif stack.dtype != np.uint8:
        finite = stack[np.isfinite(stack)]
        # As floats: the difference of small integers may overflow.
        scale = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        if scale[0] >= 0 and scale[1] <= 1 and stack.dtype.kind == "f":
            scale = 0.0, 1.0
        else:
            remark = f"{stack.dtype} values, scaled from {scale[0]:g} to {scale[1]:g}"
    if stack.ndim == 4 and stack.shape[3] == 4:
        remark = "; ".join(filter(None, [FILLED, remark]))
    for index, picture in enumerate(stack):
        shades = (picture - np.float32(scale[0])) / max(scale[1] - scale[0], 1e-12)
        if shades.ndim == 3 and np.isfinite(shades).all():
            rgb = np.rint(255 * shades).astype(np.uint8)
            shades = _shades(Image.fromarray(rgb), channels)
        elif shades.ndim == 2:
            shades = _of_gray(shades, channels)
        yield _Picture(f"{name}[{index}]", shades, remark)


def _array(file: Path) -> Array:
    """The array of a file; of several, the one called images, or else the largest."""
    if file.suffix.lower() == ".npy":
        return np.load(file, mmap_mode="r", allow_pickle=False)
    with np.load(file, allow_pickle=False) as arrays:
        named = {name: arrays[name] for name in arrays.files}
    return named["images"] if "images" in named else max(named.values(), key=lambda a: a.size)


def _as_stack(array: Array) -> Array:
    """(N, H, W), or (N, H, W, 3 or 4)."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"it holds {array.dtype} values, not real numbers")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)):  # one picture
        array = array[None]
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] not in (1, 3, 4):
        array = np.moveaxis(array, 1, 3)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    colours = array.ndim == 4 and array.shape[3] in (3, 4)
    if not (array.ndim == 3 or colours) or 0 in array.shape:
        raise ValueError(f"its shape is {array.shape}, not (N, H, W)")
    return array


def _decoded(file: Path, channels: int) -> tuple[Array, str]:
    """A picture's shades, and what had to be done."""
    if not file.stat().st_size:
        raise _UnusableError("an empty file")
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore")  # of unusual metadata
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise _UnusableError(
                    f"{width:,} x {height:,} pixels: more than {MOST_PIXELS:,} in all; shrink it"
                )
            frames = getattr(image, "n_frames", 1)
            if image.format == "JPEG":  # decodes a large one at a fraction of its size
                mode = "L" if channels == 1 else "RGB"
                image.draft(mode, (2 * LARGEST, 2 * LARGEST))
            shades, remark = _shades_and_remark(ImageOps.exif_transpose(image), channels)
    except _UnusableError:
        raise
    except UnidentifiedImageError as error:
        raise _UnusableError("damaged, or not a picture in spite of its ending") from error
    except Exception as error:  # decoders raise many kinds
        raise _UnusableError(f"cannot be read as a picture ({_line(error)})") from error
    remarks = [remark] if remark else []
    if frames > 1:
        remarks.append(f"{frames} frames or pages, of which only the first is used")
    return shades, "; ".join(remarks)


def _shades_and_remark(image: Image.Image, channels: int) -> tuple[Array, str]:
    if image.mode[0] in "IF":  # 16 or 32 bits
        values = np.asarray(image).astype(np.float32)
        remark = f"{image.mode} values, scaled from {values.min():g} to {values.max():g}"
        return _of_gray(_stretched(values), channels), remark
    if "transparency" in image.info:  # one colour of a picture without an alpha channel
        image = image.convert("RGBA")
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    remark = FILLED if image.mode[-1] in "Aa" else ""
    return _shades(image, channels), remark


def _of_gray(shades: Array, channels: int) -> Array:
    """(H, W) with as many equal channels as are wanted, last."""
    return np.repeat(shades[..., None], channels, -1)


def _shades(image: Image.Image, channels: int) -> Array:
    """Shades from 0 to 1; what is transparent becomes white or black, whichever stands out."""
    image = image.reduce(max(1, min(image.size) // (4 * LARGEST)))  # saves time and memory
    opaque = image if image.mode[-1] not in "Aa" else image.convert("RGBA").convert("RGB")
    values = np.asarray(opaque.convert("L" if channels == 1 else "RGB"), np.float32) / 255
    shades = values.reshape(*values.shape[:2], channels)
    if opaque is image:
        return shades
    alpha = np.asarray(image.convert("RGBA").getchannel("A"), np.float32)[..., None] / 255
    if not alpha.any():
        return np.zeros_like(shades)
    paper = float((shades.max(-1, keepdims=True) * alpha).sum() / alpha.sum() < 0.5)
    return shades * alpha + paper * (1 - alpha)


def _stretched(shades: Array) -> Array:
    """From a picture's own range to 0 to 1."""
    low, high = shades.min(), shades.max()
    return (shades - low) / max(high - low, 1e-12)


def _fitted(shades: Array, size: tuple[int, int], fit: str) -> Array:
    """Shades in the wanted size."""
    (height, width), (h, w) = size, shades.shape[:2]
    if fit == "stretch" or (h, w) == size:
        return _resized(shades, size)
    if fit == "crop":
        scale = max(height / h, width / w)
        shades = _resized(shades, (max(height, round(h * scale)), max(width, round(w * scale))))
        top, left = (shades.shape[0] - height) // 2, (shades.shape[1] - width) // 2
        return shades[top : top + height, left : left + width]
    scale = min(1.0, height / h, width / w)
    shades = _resized(shades, (max(1, round(h * scale)), max(1, round(w * scale))))
    padded = np.full((*size, shades.shape[2]), _borders(shades[None])[0], np.float32)
    top, left = (height - shades.shape[0]) // 2, (width - shades.shape[1]) // 2
    padded[top : top + shades.shape[0], left : left + shades.shape[1]] = shades
    return padded


def _resized(shades: Array, size: tuple[int, int]) -> Array:
    """Bilinear; where it shrinks, every pixel is a weighted mean of all that it covers."""
    if shades.shape[:2] == size:
        return shades
    images = [
        Image.fromarray(np.ascontiguousarray(x, np.float32)) for x in np.moveaxis(shades, -1, 0)
    ]
    resized = [image.resize((size[1], size[0]), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in resized], -1).clip(0, 1)


def _borders(pixels: Array) -> Array:
    """The median shade of each picture's outermost pixels, for each channel."""
    edges = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
    return np.median(np.concatenate(edges, 1), 1)


def _from_black(pixels: Array) -> None:
    """Set each border's shade to black and the brightest pixel to white, in place."""
    for picture, border in zip(pixels, _borders(pixels), strict=True):  # channels are last
        off = picture.astype(np.float32) - border
        picture[:] = np.rint(255 * (off / max(off.max(), 1e-12)).clip(0, 1))


def _classes(names: list[str]) -> tuple[tuple[str, ...], torch.Tensor | None]:
    """The subfolders in order, and the number of each image's subfolder; empty if there are none.

    The pictures of an array have the class of its folder.
    """
    folders = [Path(name).parent.as_posix() for name in names]
    if set(folders) <= {"."}:
        return (), None
    classes = sorted(set(folders), key=_natural)
    return tuple(classes), torch.tensor([classes.index(folder) for folder in folders])


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0][:100] or type(error).__name__


def _some(names: Any) -> str:
    """A few names, and how many more there are."""
    names = [*names]
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
