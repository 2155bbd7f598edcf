"""Images as uint8 tensors: MNIST and its relatives, the bundled mini set, letters, or your own.

Images stay uint8 on the training device and are converted to floats one batch at a time, so an
epoch needs one permutation and no data loader.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from tvae_core.checks import check_known
from tvae_core.runtime import locked, seeded, write_atomically

BINARIZATIONS = ("none", "dynamic")
SPLITS = ("train", "test")
DATASETS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
BUNDLED = {"mini": ("digits.npz", 9_000), "mini-fashion": ("garments.npz", 500)}  # train images
NAMES = (*DATASETS, *BUNDLED)
Values = Tensor | NDArray[Any] | Sequence[Any]

RAW_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# SHA-256 of MNIST's extracted files. For the other data sets, torchvision checks the MD5 of the
# downloaded archives, and we store the SHA-256 of the extracted files to check on later loads.
MNIST_SHA256 = {
    RAW_FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    RAW_FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    RAW_FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    RAW_FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
BUNDLED_SHA256 = {
    "digits.npz": "7fb473db1b9fe0c637b9e9bf2d609f63245aeaadeebf7a0fc5ee49f42fdca323",
    "garments.npz": "9115805003275cc28a73f30d27dfb8d3e87b0626d930ed486fd9486728e4f940",
}

KNOWN = ("labels", "maps", "styles", "bends")  # what may be known of images


@dataclass(frozen=True)
class Images:
    """N gray or coloured images on one device, with what is known: labels, poses, styles, bends.

    Poses (maps of pixels) and bends are those of `tvae_core.moved`; a letter's style is its face.
    """

    pixels: UInt8[Tensor, "N C H W"]
    labels: Int64[Tensor, "N"] | None
    name: str
    maps: Float[Tensor, "N 2 3"] | None = None
    styles: Int64[Tensor, "N"] | None = None
    bends: Float[Tensor, "N 18"] | None = None

    def __post_init__(self) -> None:
        for name in KNOWN:
            values = getattr(self, name)
            if values is not None and len(values) != len(self.pixels):
                raise ValueError(f"{len(self.pixels)} images, but {len(values)} {name}")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor) -> Images:
        """A subset, selected by a slice or an index tensor."""
        if isinstance(index, int):
            raise TypeError("one image is images[i : i + 1], and its pixels are images.x[i]")
        return self._each(lambda values: values[index])

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def x(self) -> Float[Tensor, "N C H W"]:
        """All images as floats in [0, 1]."""
        return self.pixels / 255

    def to(self, device: torch.device | str) -> Images:
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Images:
        known = {name: getattr(self, name) for name in KNOWN}
        changed: dict[str, Any] = {name: change(v) for name, v in known.items() if v is not None}
        return replace(self, pixels=change(self.pixels), **changed)

    def sha256(self) -> str:
        """Hash of the shape and the pixels, without labels: equal hashes mean equal images."""
        digest = hashlib.sha256(str(tuple(self.pixels.shape)).encode())
        digest.update(self.pixels.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def from_tensor(x: Values, labels: Values | None = None, name: str = "own") -> Images:
    """Images of a tensor, array or list, (N, 1 or 3, H, W) in [0, 1], in 256 levels."""
    x = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    labels = None if labels is None else torch.as_tensor(labels)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or x.numel() == 0:
        raise ValueError(
            "images must have shape (N, 1, H, W), or (N, 3, H, W) in colour, with N, H, W >= 1, "
            f"got {tuple(x.shape)}; add the channel axis with x.unsqueeze(1)"
        )
    x = x.float()
    if not x.isfinite().all():
        raise ValueError("images contain NaN or infinite values; remove them first")
    low, high = x.aminmax()
    if low < 0 or high > 1:
        raise ValueError(
            f"pixels must lie in [0, 1], got [{low:g}, {high:g}]"
            + ("; divide by 255" if low >= 0 and high <= 255 else "")
        )
    if labels is not None and labels.shape != x.shape[:1]:
        raise ValueError(f"{len(x)} images need {len(x)} labels, got shape {tuple(labels.shape)}")
    if labels is not None and not labels.eq(labels.long()).all():
        raise ValueError("labels must be whole numbers, one for each image")
    labels = None if labels is None else labels.long()
    return Images((x * 255).round().byte(), labels, name)


MADE: dict[str, Callable[[str, str | None], Images]] = {}  # by split and fallback; see `moved`


def load(name: str, split: str, fallback: str | None = None) -> Images:
    """Load "mnist", "fashion-mnist" (downloaded on first use), "mini" or "mini-fashion" (bundled).

    "moved-mini", or any name with "turned-", "scattered-" or "bent-" in front, gives those images
    in known poses, drawn from the ranges in `moved.FAMILIES`. "letters" are 5,000 moved glyphs.

    Files are stored in the folder named by the environment variable `TVAE_DATA`. Every load checks
    them, and downloads them again if any is damaged or missing; that needs torchvision. With
    `fallback="mini"`, a failed download, or a machine without a home directory, prints a message
    and loads the bundled digits; without it, it raises an OSError, which says what to do.
    """
    check_known("data set", name, (*NAMES, *MADE))
    check_known("split", split, SPLITS)
    if fallback is not None:
        check_known("fallback", fallback, BUNDLED)
    if name in BUNDLED:
        return _load_bundled(name, split)
    if name in MADE:
        return MADE[name](split, fallback)
    try:
        return _load_files(name, split)
    except (ConnectionError, FileNotFoundError) as error:
        if fallback is None:
            raise
        found = load(fallback, split)
        print(
            f"{error}\nContinuing with {fallback!r}: {len(found):,} bundled images instead of "
            f"{name!r}."
        )
        return found


def data_folder() -> Path:
    """`TVAE_DATA` if it is set, else a folder in the user's cache."""
    try:
        return Path(os.environ.get("TVAE_DATA") or "~/.cache/tvae_core").expanduser()
    except RuntimeError as error:
        raise FileNotFoundError("there is no home directory; set TVAE_DATA to a folder") from error


def _load_bundled(name: str, split: str) -> Images:
    file, train = BUNDLED[name]
    stored = resources.files("tvae_core").joinpath("mini", file).read_bytes()
    if hashlib.sha256(stored).hexdigest() != BUNDLED_SHA256[file]:
        raise OSError(f"the bundled {file} is damaged; install tvae_core again")
    rows = slice(0, train) if split == "train" else slice(train, None)
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        pixels = torch.from_numpy(arrays["images"][rows]).unsqueeze(1)
        labels = torch.from_numpy(arrays["labels"][rows]).long()
    return Images(pixels, labels, name)


def _load_files(name: str, split: str) -> Images:
    raw = data_folder() / DATASETS[name] / "raw"
    if _complaint(raw, name):
        _fetch(raw, name)
    images, labels = RAW_FILES[:2] if split == "train" else RAW_FILES[2:]
    return Images(_read_idx(raw / images).unsqueeze(1), _read_idx(raw / labels).long(), name)


def _complaint(raw: Path, name: str) -> str:
    """What is wrong with the first bad file of a data set, or "" if all four can be used."""
    file = "sha256.json"
    try:
        sums = MNIST_SHA256 if name == "mnist" else None
        if sums is None and (raw / file).exists():
            kept = json.loads((raw / file).read_bytes())
            sums = {name: kept[name] for name in RAW_FILES}
        counts = []
        for file in RAW_FILES:
            counts.append(len(_read_idx(raw / file)))
            if sums is not None and _sha256(raw / file) != sums[file]:
                return f"{file} is the wrong file, or damaged (its SHA-256 differs)"
            if "labels" in file and counts[-1] != counts[-2]:
                return f"{file} has {counts[-1]:,} labels for {counts[-2]:,} images"
    except (FileNotFoundError, NotADirectoryError):
        packed = raw / f"{file}.gz"
        return f"{file} is missing" + f"; unpack {packed.name} with gunzip" * packed.exists()
    except (KeyError, TypeError, ValueError) as error:
        return f"{file} is damaged ({error})"
    return ""


def _read_idx(path: Path) -> UInt8[Tensor, "N *S"]:
    """A file in MNIST's format: 0, 0, 8 for bytes, the number of axes, their lengths, the bytes."""
    content, axes = path.read_bytes(), 3 if "idx3" in path.name else 1
    start = 4 * (1 + axes)
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if content[:4] != bytes([0, 0, 8, axes]):
        raise ValueError("still packed: gunzip it" if content[:2] == b"\x1f\x8b" else "no idx file")
    if len(content) != start + math.prod(shape):
        raise ValueError(f"{len(content):,} bytes instead of {start + math.prod(shape):,}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(raw: Path, name: str) -> None:
    """Download into a temporary folder on the same disk, verify, and move each file into place.

    Of several processes only one downloads; the others wait for its lock and then find the files.
    """
    root = raw.parent.parent
    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(root / f".{name}.lock"))
            complaint = _complaint(raw, name)
            if not complaint:
                return
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            (temporary / "probe").write_bytes(b"x")
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot write images to {root} ({error.strerror}); "
                "set TVAE_DATA to a folder you can write to, with 150 MB free",
            ) from error
        try:
            dataset = getattr(import_torchvision_datasets(), DATASETS[name])
            dataset(str(temporary), download=True)
        # torchvision raises RuntimeError, urllib OSError or (for a broken response) HTTPException.
        except (OSError, RuntimeError, http.client.HTTPException, ImportError) as error:
            if getattr(error, "errno", None) == 28:  # ENOSPC
                raise OSError(
                    28, f"no space left in {root}; free 150 MB or set TVAE_DATA to another folder"
                ) from error
            lacking = isinstance(error, ImportError)
            cure = "Run: pip install torchvision" if lacking else "Check the network"
            raise ConnectionError(
                f"could not download {name!r} ({str(error).strip() or type(error).__name__}). "
                f"{cure}; or put its four extracted files into {raw} (now {complaint}); "
                "or use load('mini', ...), which needs no network."
            ) from error
        fetched = temporary / raw.relative_to(root)
        sums = {file: _sha256(fetched / file) for file in RAW_FILES}
        if name == "mnist" and sums != MNIST_SHA256:
            raise ConnectionError(
                f"the download of {name!r} arrived damaged (SHA-256 differs); try again"
            )
        raw.mkdir(parents=True, exist_ok=True)
        for file in RAW_FILES:
            os.replace(fetched / file, raw / file)
        write_atomically(raw / "sha256.json", json.dumps(sums, indent=1).encode())


_schemas: list[torch.library.Library] = []  # a schema disappears with its Library object


def import_torchvision_datasets() -> Any:
    """`torchvision.datasets`, even if torchvision is a CUDA build and torch is CPU-only.

    With that mismatch, `import torchvision` fails because two C++ operators are missing. No data
    set uses them, and defining their schemas is enough for the import to succeed.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.append(library)
    return importlib.import_module("torchvision.datasets")


def binarize_fixed(images: Images, seed: int = 0) -> Images:
    """Binary images, each pixel drawn once from Bernoulli(gray value): one fixed set per seed.

    Pixels are drawn on the CPU, so the set does not depend on the device. Records identify it by
    its `sha256()`.
    """
    with seeded(seed):
        bits = torch.bernoulli(images.pixels.cpu().float() / 255)
    pixels = (bits * 255).byte().to(images.pixels.device)
    return replace(images, pixels=pixels, name=f"{images.name}, binarized with seed {seed}")


@dataclass(frozen=True)
class Batches:
    """Training batches: each iteration is one epoch, over every image once in a new random order.

    Batches are floats in [0, 1] on the images' device; the last may be smaller. `binarization` is
    "none" to use the images as they are, or "dynamic" to redraw each pixel from
    Bernoulli(gray value) at every visit. With a `stack` of S, each batch is (S, B, C, H, W): S
    batches, each with its own order and pixel draws. All randomness comes from torch's global
    generators.
    """

    images: Images
    batch_size: int
    binarization: str = "none"
    stack: int | None = None

    def __post_init__(self) -> None:
        check_known("binarization", self.binarization, BINARIZATIONS)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Float[Tensor, "*S B C H W"]]:
        pixels = self.images.pixels
        orders = torch.stack([torch.randperm(len(pixels)) for _ in range(self.stack or 1)])
        if self.stack is None:
            orders = orders[0]
        for index in orders.to(pixels.device).split(self.batch_size, -1):
            x = pixels[index] / 255
            yield torch.bernoulli(x) if self.binarization == "dynamic" else x
