"""Pictures in known poses: digits that are turned, shifted and scaled, and letters of many faces.

A picture's pose is an affine map P in pixels from the centre of the canvas, with x to the right and
y downwards: what lies at r in the upright picture lies at P r in the moved one. `poses.decompose`
turns it into degrees, shifts, scales and shear, which are drawn here from stated ranges.
"""

from __future__ import annotations

import functools
import math
import string
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tvae_core.data import MADE, NAMES, SPLITS, Images, load
from tvae_core.poses import compose
from tvae_core.warps import make_warp, sample

FACES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10", "cmtt10")
LETTERS = string.ascii_uppercase
CHUNK = 1_000


@dataclass(frozen=True)
class Moves:
    """Ranges that poses are drawn from, each uniform and symmetric.

    The turn is in +-degrees, the shift along x and along y in +-pixels, and both scales share one
    factor between 1 / scale and scale, uniform in its logarithm. The shear is in +-pixels to the
    right per pixel downwards. `bend` displaces 3 x 3 control points of the sampling grid by up to
    so many pixels along x and y, as a thin-plate spline; the map does not describe this.

    Raises:
        ValueError: a range that is negative or not finite, or a scale below 1.
    """

    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 1.0
    shear: float = 0.0
    bend: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= size < math.inf for size in astuple(self)) or self.scale < 1:
            raise ValueError(
                f"ranges must be finite and at least 0, and the scale at least 1; got {self}"
            )

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2 3"]:
        """n maps P."""
        draws = 2 * torch.rand(n, 5, generator=generator, dtype=torch.float64) - 1
        turn = -math.radians(self.degrees) * draws[:, 0]  # counter-clockwise, but y points down
        scale, shear = self.scale ** draws[:, 1], self.shear * draws[:, 2]
        cos, sin = turn.cos(), turn.sin()
        entries = [cos, shear * cos - sin, sin, shear * sin + cos]
        linear = scale[:, None, None] * torch.stack(entries, -1).view(n, 2, 2)
        return torch.cat([linear, self.shift * draws[:, 3:, None]], -1).float()


CANVAS = (32, 32)
# Digits and letters lie anywhere in these ranges; 2 pixels more would cut some of them off.
FAMILY = Moves(degrees=45, shift=3, scale=1.2)
FAMILIES = {  # for `data.load`, with the canvas
    "moved": (FAMILY, CANVAS),
    "turned": (Moves(degrees=180), (28, 28)),
    "scattered": (Moves(degrees=180, shift=5), (50, 50)),
    "bent": (Moves(bend=2), CANVAS),
}


def moved(
    images: Images, moves: Moves, canvas: tuple[int, int] | None = None, seed: int = 0
) -> Images:
    """Each image once, moved at random, on a black canvas, by default of the images' own size.

    Its map P is in `Images.maps`, after the one that the image had, if any. With a bend, pixel p
    shows the upright image at P^-1 p + d(p), where d is the spline through `Images.bends`: nine
    displacements in pixels along x, then nine along y. Pixels are interpolated linearly, so
    pictures get a little softer. The same images, ranges and seed give the same ones.

    Raises:
        ValueError: a canvas in whose centre the images cannot lie, or images that are bent already.
    """
    if images.bends is not None:
        raise ValueError("bent images cannot be moved again: move those from before the bend")
    canvas = images.size if canvas is None else canvas
    low, left = ((c - s) // 2 for c, s in zip(canvas, images.size, strict=True))
    if min(low, left) < 0 or (2 * low + images.size[0], 2 * left + images.size[1]) != canvas:
        raise ValueError(
            f"the canvas {canvas} must be as large as the images, {images.size}, or larger by an "
            "even number of pixels, so that both have the same centre"
        )
    generator = torch.Generator().manual_seed(seed)
    maps = moves.draw(len(images), generator)
    bends = moves.bend * (2 * torch.rand(len(images), 18, generator=generator) - 1)
    affine, spline = make_warp("affine", canvas), make_warp("tps", canvas)
    half = torch.tensor([canvas[1] / 2, canvas[0] / 2])
    parts = []
    for start in range(0, len(images), CHUNK):
        some = slice(start, start + CHUNK)
        x = torch.nn.functional.pad(images[some].x.cpu(), (left, left, low, low))
        theta = maps[some] / half[:, None]
        theta = torch.cat([theta[..., :2] * half, theta[..., 2:]], -1)
        grid = affine.inverse_grid((theta - torch.eye(2, 3)).flatten(1))
        if moves.bend:
            grid = grid + spline.grid(bends[some] / half.repeat_interleave(9)) - spline.identity
        parts.append((255 * sample(x, grid)).round().byte())
    name = f"{images.name}, moved ({moves}, canvas {canvas}, seed {seed})"
    if images.maps is not None:
        maps = compose(maps, images.maps.cpu().float())
    here = images.pixels.device
    kept = {"maps": maps.to(here), "bends": bends.to(here) if moves.bend else None}
    return replace(images, pixels=torch.cat(parts).to(here), name=name, **kept)


def glyphs(
    n: int,
    moves: Moves,
    size: tuple[int, int] = (32, 32),
    height: float = 16.0,
    seed: int = 0,
    pose_seed: int | None = None,
) -> Images:
    """n capital letters in faces that come with matplotlib, drawn in exactly known poses.

    The label is the letter, 0 for A, and the style is the face in `FACES`. A letter is centred on
    its bounding box, and `height` is that of a capital in pixels. Outlines are moved and then
    drawn, so nothing is interpolated. With another `pose_seed` the letters and faces of a seed stay
    the same, and their poses differ. Maps alone move letters, so a bend of `moves` is ignored.

    Raises:
        ValueError: a height that is not positive.
    """
    if not 0 < height < math.inf:
        raise ValueError(f"the height of a capital must be positive, in pixels; got {height}")
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Affine2D

    generator = torch.Generator().manual_seed(seed)
    maps = moves.draw(n, generator)
    letters = torch.randint(len(LETTERS), (n,), generator=generator)
    faces = torch.randint(len(FACES), (n,), generator=generator)
    if pose_seed is not None:
        maps = moves.draw(n, torch.Generator().manual_seed(pose_seed))
    outlines: dict[tuple[int, int], Any] = {}
    rows, columns = size
    pixels = torch.empty(n, 1, rows, columns, dtype=torch.uint8)
    for i, key in enumerate(zip(letters.tolist(), faces.tolist(), strict=True)):
        if key not in outlines:
            outlines[key] = _outline(LETTERS[key[0]], FACES[key[1]], height)
        matrix = torch.eye(3, dtype=torch.float64)
        matrix[:2] = maps[i]
        renderer = RendererAgg(columns, rows, 72)
        gc = renderer.new_gc()
        gc.set_linewidth(0)
        # Outlines have y upwards, poses have it downwards, and the renderer upwards again.
        flip = Affine2D().scale(1, -1)
        place = flip + Affine2D(matrix.numpy()) + flip + Affine2D().translate(columns / 2, rows / 2)
        renderer.draw_path(gc, outlines[key], place, (1.0, 1.0, 1.0))
        pixels[i, 0] = torch.tensor(np.asarray(renderer.buffer_rgba())[..., 3])
    name = f"glyphs ({moves}, size {size}, height {height:g}, seed {seed}, poses {pose_seed})"
    return Images(pixels, letters, name, maps, faces)


def _outline(letter: str, face: str, height: float) -> Any:
    """The outline of a letter, centred, with y upwards."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    font = FontProperties(fname=str(fonts / f"{face}.ttf"))
    capital = TextPath((0, 0), "H", size=100, prop=font).get_extents().height
    path = TextPath((0, 0), letter, size=100, prop=font)
    box = path.get_extents()
    centre = Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
    return path.transformed(centre.scale(height / capital))


def _moved(family: str, name: str, split: str, fallback: str | None) -> Images:
    return moved(load(name, split, fallback), *FAMILIES[family], seed=SPLITS.index(split))


MADE["letters"] = lambda split, _: glyphs(5_000, FAMILY, seed=SPLITS.index(split))
MADE |= {f"{f}-{name}": functools.partial(_moved, f, name) for f in FAMILIES for name in NAMES}
