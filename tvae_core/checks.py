"""Checks of arguments: `hold` makes a module's public functions check theirs by annotations."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Sequence
from numbers import Integral, Real
from types import ModuleType, UnionType
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
# The least value of a whole number is 1, except for these.
LEAST = {"seed": 0, "seeds": 0, "pose_seed": 0, "dim_u": 0, "warm_up": 0, "repeats": 2}
LEAST |= {"refine": 0, "nll_samples": 0}
WORDS = {  # what an argument must be, by its name or its type
    "size": "(height, width), two whole numbers of at least 1",
    "optimizer": "a function such as training.adam, which makes an optimizer and its schedule",
    "int": "a whole number of at least {}",
    "NoneType": "None",
    "Tensor": "a tensor of images (from data.Batches; a DataLoader may make lists)",
    "log_w": "a tensor of log-weights (to train with a bound: estimators.reparameterized(bound))",
    "Images": "data.Images with at least one image (data.from_tensor makes them)",
    "Estimator": "an estimator, such as estimators.reparameterized(bounds.iwae)",
    "Epochs": "batches of images, such as data.Batches(images, 128)",
}
ABLE = {"Callable": ["__call__"], "Estimator": ["__call__"], "Epochs": ["__len__", "__iter__"]}
ABLE |= {"VAE": ["posterior"], "Any": []}  # anything with these methods is accepted


def check_known(kind: str, name: str, known: Collection[str]) -> None:
    """Raise a ValueError that lists the known names, unless `name` is one of them."""
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(known)}")


def hold(module: ModuleType) -> None:
    """From now on, check the arguments of a module's public functions and constructors.

    A call raises a TypeError, or a ValueError for a number, list or tensor that does not fit,
    unless each argument is what its annotation says. Whole numbers are at least 1, or as `LEAST`
    says; there is at least one image and one draw.
    """
    for name, thing in [*vars(module).items()]:
        if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(thing):
            setattr(module, name, checked(thing))
        elif "__init__" in vars(thing) and not getattr(thing, "_is_protocol", False):
            thing.__init__ = checked(thing.__init__)


def checked(function: Function) -> Function:
    """The same function, which looks at its arguments first: see `hold`."""
    names, hints = list(inspect.signature(function).parameters), dict[str, Any]()

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        if not hints:  # not before the first call, when all modules are complete
            hints.update(typing.get_type_hints(function))
        for name, value in [*zip(names, args, strict=False), *options.items()]:
            if name in hints:
                check(name, value, hints[name])
        return function(*args, **options)

    return wrapper  # type: ignore[return-value]


def check(name: str, value: Any, hint: Any) -> None:
    """Raise an error, as `hold` says, unless an argument is what an annotation says."""
    union = typing.get_origin(hint) in (typing.Union, UnionType)
    choices, least = typing.get_args(hint) if union else (hint,), LEAST.get(name, 1)
    if not any(_fits(value, choice, least) for choice in choices):
        wanted = " or ".join(dict.fromkeys(_words(name, choice) for choice in choices))
        got = text if len(text := repr(value)) < 50 else f"an object of type {type(value).__name__}"
        if hasattr(value, "dtype"):
            got = f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
        error = ValueError if type(value) in (int, tuple, list, torch.Tensor) else TypeError
        raise error(f"{name} must be {wanted.format(least)}, got {got}")


def _fits(value: Any, hint: Any, least: int) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    kind = getattr(origin or hint, "__name__", "")
    if hint in (int, float):
        number = isinstance(value, Integral if hint is int else Real)
        return number and not isinstance(value, bool) and (hint is float or value >= least)
    if hasattr(hint, "dim_str"):  # jaxtyping's; N images, K draws
        plain = hint.array_type if "+" in hint.dim_str else hint
        return isinstance(value, plain) and (value.numel() > 0 or hint.dim_str[0] not in "KN")
    if kind in ABLE:
        optimizer = isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
        return not optimizer and all(hasattr(value, method) for method in ABLE[kind])
    if not isinstance(value, origin or hint) or (kind == "Images" and not len(value)):
        return False
    if origin in (tuple, Sequence):
        fits = not isinstance(value, str) and (origin is Sequence or len(value) == len(parts))
        return fits and all(_fits(each, parts[0], least) for each in value)
    return True


def _words(name: str, hint: Any) -> str:
    kind = getattr(typing.get_origin(hint) or hint, "__name__", "")
    if hasattr(hint, "dim_str"):
        kind = f"{hint.dtype.__name__} tensor ({', '.join(hint.dim_str.split())})"
    if kind == "Sequence":
        return f"a list, each item {_words('', typing.get_args(hint)[0])}"
    return WORDS.get(name) or WORDS.get(kind) or f"a {kind}"
