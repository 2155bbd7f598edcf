"""The explorer's JavaScript, and the models and digits in the form in which it takes them.

A page opened from a folder on disk can load classic scripts, but can neither fetch data nor import
modules. So everything that a page needs is written as a classic script: the explorer itself, each
model with its weights in base64, and the digits.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from tvae_core import data, models
from tvae_core.data import Images
from tvae_core.experiments import results, where
from tvae_core.experiments.configs import RunName
from tvae_core.explorer.joining import join
from tvae_core.models import VAE, Decoder, Encoder, SecondLook, WarpedDecoder
from tvae_core.moved import Moves, moved
from tvae_core.networks import PixelBernoulli
from tvae_core.runtime import NAMES, seeded, write_atomically
from tvae_core.warps import LEAST_DET, WARPS, Warp, make_warp

STRAIGHTENED = "affine-straight-iwae5-modern"  # the model whose encoder straightens the image
# The models that a page can show: the study's, and that one. "vae-binarized" is left out because
# its weights are shipped for the plain decoder only.
SHOWN = (
    *(
        str(RunName(decoder, objective))
        for decoder, objective in product(NAMES["decoders"], NAMES["objectives"])
        if objective != "vae-binarized"
    ),
    STRAIGHTENED,
)
# The model of chapter 12, trained on digits that were turned and shifted. It has a view of its own.
MOVED = "moved-affine-straight"
# What menus call decoders and objectives.
MENUS = {
    "decoders": NAMES["decoders"] | {"affine-straight": "affine, straightened first"},
    "objectives": NAMES["objectives"] | {"iwae5-modern": "IWAE, k = 5, modern recipe"},
}
VIEWS = ("swap", "pose", "appearance", "encode", "move", "bounds", "all")
# In how many steps a page stores a weight of the size that is usual in its row. Small layers cost
# little, and an error in one of them reaches every pixel.
STEPS = {"encoder": 48, "decoder": 96, "small": 512}
LARGE = 50_000  # weights
DECODER = ("decoder_body", "logits", "pose")
PER_CLASS = 3  # how many digits of each class a page offers


@torch.no_grad()
def describe(model: VAE, images: Images, binarized: bool = False) -> tuple[dict[str, Any], Tensor]:
    """A model's configuration and weights, in the form that `buildModel` in model.mjs takes.

    The weights are a single float32 vector: for each linear layer its matrix, row by row, then its
    bias. `binarized` says whether the model was trained on binary pixels. `images` are
    used to measure the mean KL of each latent, which tells the explorer how to sort the latents and
    which ones are uninformative.

    Raises:
        TypeError: an architecture that `models.build` does not make.
    """
    encoder, decoder = model.encoder, model.decoder
    canonical = decoder.canonical if isinstance(decoder, WarpedDecoder) else decoder
    if not (isinstance(encoder, Encoder | SecondLook) and isinstance(canonical, Decoder)):
        raise TypeError(
            "the explorer supports the encoders and decoders that models.build makes; got "
            f"{type(encoder).__name__} and {type(canonical).__name__}"
        )
    if canonical.pixels is not PixelBernoulli:
        raise TypeError("the explorer supports Bernoulli pixels only")
    with_weights = {type(m) for m in model.modules() if [*m.parameters(recurse=False)]}
    if with_weights != {nn.Linear} or model.shape[0] != 1:
        raise TypeError("the explorer supports gray images and linear layers only")
    x = (data.binarize_fixed(images) if binarized else images).x
    q = model.posterior(x.to(next(model.parameters()).device))
    with seeded(0):  # after a second look, the KL of z is a mean over draws of u
        mean_kl = kl_divergence(q, model.prior).mean(0).tolist()
    config: dict[str, Any] = {
        "size": list(model.size),
        "dim_z": model.dim_z,
        "dim_u": model.dim_u,
        "warp": None,
        "look": None,
        "bounded": isinstance(encoder, Encoder) and encoder.bounded,
        "binarized": binarized,
        "log_sigma_range": list(models.LOG_SIGMA_RANGE),
        "mean_kl": [round(nats, 4) for nats in mean_kl],
        "informative": [nats > NAMES["informative_kl"] for nats in mean_kl],
    }
    parts: dict[str, nn.Module | None] = {
        "encoder_body": encoder.body,
        "mu_u": encoder.mu_u,
        "decoder_body": canonical.body,
        "logits": canonical.logits,
    }
    if isinstance(encoder, SecondLook):
        if encoder._decoder[0] is not decoder:
            raise TypeError(
                "the explorer supports encoders that straighten by the model's own warp"
            )
        config |= {"look": encoder.look, "refine": encoder.refine, "least_det": LEAST_DET}
        parts |= {
            "log_sigma_u": encoder.log_sigma_u,
            "read": encoder.read,
            "read_pose": encoder.reader.pose,
            "reader_body": encoder.reader.body,
            "mu_z": encoder.reader.mu,
            "log_sigma_z": encoder.reader.log_sigma,
        }
    else:
        parts |= {"mu_z": encoder.mu_z, "log_sigma": encoder.log_sigma}
    if isinstance(decoder, WarpedDecoder):
        parts["pose"] = decoder.pose
        warp = _name_of(decoder.warp)
        config |= {"warp": warp, "resample": decoder.resample, "padding": decoder.padding}
        config["floor"] = models.FLOOR
        if warp == "tps":
            config["points"] = math.isqrt(decoder.warp.n_params // 2)
    layers, numbers = [], []
    for part, module in parts.items():
        for layer in module.modules() if module is not None else ():
            if isinstance(layer, nn.Linear):
                layers.append([part, *layer.weight.shape])
                numbers += [layer.weight.detach().flatten(), layer.bias.detach()]
    return config | {"layers": layers}, torch.cat(numbers).cpu().float()


def _name_of(warp: Warp) -> str:
    """The name under which `make_warp` makes this warp.

    Raises:
        TypeError: `make_warp` does not make it.
    """
    basis, params = warp.basis.cpu(), torch.linspace(-0.1, 0.2, warp.n_params)
    theta = warp.theta(params.to(warp.basis.device)).cpu()
    for name in WARPS:
        options = {"n": math.isqrt(warp.n_params // 2)} if name == "tps" else {}
        if name == "identity" or options.get("n", 2) < 2:
            continue
        known = make_warp(name, warp.size, **options)
        same = known.n_params == warp.n_params and torch.equal(known.basis, basis)
        if same and torch.allclose(known.theta(params), theta):
            return name
    raise TypeError("the explorer supports the warps that make_warp makes; this is another one")


def some_digits(per_class: int = PER_CLASS) -> Images:
    """The first few digits of each class among the bundled ones that are held out of training.

    They are in the order 0, 1, ..., 9, 0, 1, ...
    """
    mini = data.load("mini", "test")
    assert mini.labels is not None
    of_class = [(mini.labels == label).nonzero().flatten()[:per_class] for label in range(10)]
    return mini[torch.stack(of_class, 1).flatten()]


def source(module: bool) -> str:
    """The explorer as one script: an ES module for anywidget, or a classic script for a page."""
    joined = join(Path(__file__).parent, "notebook.mjs" if module else "page.mjs")
    return joined if module else f"(() => {{\n{joined}}})();\n"


def write_page_files(folder: Path, names: Iterable[str] = (*SHOWN, MOVED)) -> Path:
    """Write the scripts that pages load into `folder`, and return the path of explorer.js.

    A page names only explorer.js, which loads the other scripts from the same folder when they are
    needed. Their file names contain a hash of their contents, so that browsers can cache them
    forever. Scripts from earlier calls are removed.
    """
    scripts = {name: _model_script(name) for name in names}
    scripts["digits"] = _digits_script(some_digits())
    files = {}
    for name, script in scripts.items():
        digest = hashlib.sha256(script.encode()).hexdigest()[:8]
        files[name] = f"{name}.{digest}.js"
        for stale in folder.glob(f"{name}.*.js"):
            stale.unlink()
        write_atomically(folder / files[name], script.encode())
    page = {"files": files, "names": MENUS, "loaded": {}}
    script = f"globalThis.tvaeExplorer = {json.dumps(page)};\n{source(module=False)}"
    write_atomically(folder / "explorer.js", script.encode())
    return folder / "explorer.js"


def load(name: str) -> tuple[VAE, Images, bool]:
    """A model that pages show, digits of its size, and whether it was trained on binary pixels.

    Raises:
        ValueError: the model is unknown. The message lists the known ones.
    """
    if name == MOVED:
        return where.load(), moved(some_digits(), Moves(), where.CANVAS), True
    model, record = results.load_pretrained(name)
    return model, some_digits(), record.binary


def _model_script(name: str) -> str:
    model, digits, binary = load(name)
    config, weights = describe(model, digits, binary)
    return _script(name, {**config, "packed": pack(config, weights)})


def _digits_script(images: Images) -> str:
    assert images.labels is not None
    packed = _base64(pixels_of(images))
    return _script(
        "digits", {"labels": images.labels.tolist(), "size": images.size, "packed": packed}
    )


def pixels_of(images: Images) -> bytes:
    """One byte per pixel: the images, then the images as `data.binarize_fixed` binarizes them.

    JavaScript cannot repeat PyTorch's random numbers, and numbers on a page should be those that
    Python computes for the same digit.
    """
    return b"".join(x.pixels.cpu().numpy().tobytes() for x in (images, data.binarize_fixed(images)))


def _script(name: str, content: dict[str, Any]) -> str:
    return f"tvaeExplorer.loaded[{json.dumps(name)}] = {json.dumps(content)};\n"


def pack(config: dict[str, Any], weights: Tensor) -> str:
    """A model's weights, rounded for a page, deflated, in base64.

    Each row of a matrix is stored as whole multiples of a step, a fixed part of the root mean
    square of the row. First come each layer's steps and biases, in float32; then the multiples,
    16 bits each: the low bytes of all, and the high bytes of all, nearly all of which are 0.
    """
    scales, multiples, at = [], [], 0
    for part, d_out, d_in in config["layers"]:
        matrix = weights[at : at + d_out * d_in].view(d_out, d_in)
        at += (d_in + 1) * d_out
        large = d_out * d_in >= LARGE
        steps = STEPS["decoder" if part in DECODER else "encoder"] if large else STEPS["small"]
        step = matrix.square().mean(1).sqrt() / steps
        step = step.maximum(matrix.abs().amax(1) / 32_000).clamp(min=1e-12)  # 16 bits are enough
        scales += [step, weights[at - d_out : at]]
        multiples.append((matrix / step[:, None]).round().int().flatten() + 128)
    shifted = torch.cat(multiples)
    planes = [(shifted & 255).to(torch.uint8), (shifted >> 8).to(torch.int8)]
    return _base64(b"".join(t.numpy().tobytes() for t in (torch.cat(scales), *planes)))


def _base64(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()
