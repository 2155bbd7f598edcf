"""What the explorer's JavaScript needs of a model, and the files that a page of the book loads.

A page that is opened from a folder may neither fetch nor import, only load classic scripts. So
everything becomes one: the explorer's source, each model with its weights in base64, the digits.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from tvae_core import data, models
from tvae_core.data import Images
from tvae_core.experiments import results
from tvae_core.models import VAE, Decoder, Encoder, WarpedDecoder
from tvae_core.runtime import write_atomically
from tvae_core.warps import WARPS, Warp, make_warp

# Decoder and objective of each model that a page may show; the explorer's menus list them.
SHOWN = tuple(
    f"{decoder}-{objective}"
    for decoder in ("plain", "affine", "tps")
    for objective in ("vae", "multi5", "iwae5")
)
VIEWS = ("pose", "appearance", "encode", "bounds", "all")
PER_CLASS = 3  # digits of each class that a page shows


@torch.no_grad()
def describe(model: VAE, images: Images, binarized: bool = False) -> tuple[dict[str, Any], Tensor]:
    """Configuration and weights of a model, as `buildModel` of model.mjs takes them.

    The weights are one float32 vector: each linear layer's matrix, row by row, then its bias.
    `binarized` says whether the model was trained on binary pixels. By the KL that each latent
    takes on `images`, in nats, the explorer tells busy latents from idle ones.

    Raises:
        TypeError: another architecture than those that `models.build` makes.
    """
    decoder = model.decoder
    canonical = decoder.canonical if isinstance(decoder, WarpedDecoder) else decoder
    if not (isinstance(model.encoder, Encoder) and isinstance(canonical, Decoder)):
        raise TypeError(
            "the explorer knows the encoder and the decoders that models.build makes; got "
            f"{type(model.encoder).__name__} and {type(canonical).__name__}"
        )
    x = (data.binarize_fixed(images) if binarized else images).x
    q = model.posterior(x.to(next(model.parameters()).device))
    activity = kl_divergence(q, model.prior).mean(0)
    config: dict[str, Any] = {
        "size": list(model.size),
        "dim_z": model.dim_z,
        "dim_u": model.dim_u,
        "warp": None,
        "binarized": binarized,
        "log_sigma_range": list(models.LOG_SIGMA_RANGE),
        "activity": [round(nats, 4) for nats in activity.tolist()],
    }
    if isinstance(decoder, WarpedDecoder):
        warp = _name_of(decoder.warp)
        config |= {"warp": warp, "resample": decoder.resample, "padding": decoder.padding}
        config["floor"] = models.FLOOR
        if warp == "tps":
            config["points"] = math.isqrt(decoder.warp.n_params // 2)
    layers, numbers = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            layers.append([name.replace(".canonical", ""), *module.weight.shape])
            numbers += [module.weight.detach().flatten(), module.bias.detach()]
    return config | {"layers": layers}, torch.cat(numbers).cpu().float()


def _name_of(warp: Warp) -> str:
    """The name under which `make_warp` makes this warp.

    Raises:
        TypeError: none does.
    """
    basis = warp.basis.cpu()
    for name in WARPS:
        options = {"n": math.isqrt(warp.n_params // 2)} if name == "tps" else {}
        if name == "identity" or options.get("n", 2) < 2:
            continue
        known = make_warp(name, warp.size, **options)
        if known.n_params == warp.n_params and torch.equal(known.basis, basis):
            return name
    raise TypeError("the explorer knows the warps that make_warp makes; this is another one")


def some_digits(per_class: int = PER_CLASS) -> Images:
    """The first few digits of each class among those held out of the bundled set, class by class
    within each round: 0, 1, ..., 9, 0, 1, ..."""
    mini = data.load("mini", "test")
    assert mini.labels is not None
    of_class = [(mini.labels == label).nonzero().flatten()[:per_class] for label in range(10)]
    return mini[torch.stack(of_class, 1).flatten()]


def source(module: bool) -> str:
    """The explorer as one script: an ES module for anywidget, else a classic script for a page."""
    parts = [
        resources.files("tvae_core.explorer").joinpath(name).read_text("utf-8")
        for name in ("model.mjs", "style.mjs", "views.mjs")
    ]
    joined = re.sub(r'^import [^;]* from "\./\w+\.mjs";\n', "", "\n".join(parts), flags=re.M)
    joined = re.sub(r"^export (?!default)", "", joined, flags=re.M)
    if module:
        return joined
    return "(() => {\n" + re.sub(r"^export default .*\n", "", joined, flags=re.M) + "})();\n"


def write_page_files(folder: Path, names: Iterable[str] = SHOWN) -> Path:
    """Write the scripts that pages load into `folder`; returns the one that a page names.

    That one is explorer.js. It loads the others when a page needs them, from the same folder, under
    names that change with their contents: a browser may keep them forever. Older ones are removed.
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
    page = f"globalThis.tvaeExplorer = {{ files: {json.dumps(files)}, loaded: {{}} }};\n"
    write_atomically(folder / "explorer.js", (page + source(module=False)).encode())
    return folder / "explorer.js"


def _model_script(name: str) -> str:
    model, record = results.load_pretrained(name)
    config, weights = describe(model, some_digits(), record.binary)
    return _script(name, {**config, "packed": pack(weights)})


def _digits_script(images: Images) -> str:
    assert images.labels is not None
    pixels = images.pixels.cpu().numpy().tobytes()
    return _script("digits", {"labels": images.labels.tolist(), "packed": _base64(pixels)})


def _script(name: str, content: dict[str, Any]) -> str:
    return f"tvaeExplorer.loaded[{json.dumps(name)}] = {json.dumps(content)};\n"


def pack(weights: Tensor) -> str:
    """Weights as float16, deflated, in base64.

    All low bytes come before all high ones: signs and exponents side by side deflate to half their
    size, and base64 makes a third more of what is left.
    """
    planes = weights.half().numpy().view("uint8").reshape(-1, 2).T
    return _base64(planes.tobytes())


def _base64(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()
