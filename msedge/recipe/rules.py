"""Values that are of the right type and still make no sense."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msedge.errors import RecipeError
from msedge.recipe.schema import Recipe
from msedge.recipe.tree import Node

_Check = tuple[Callable[[Any], bool], str]

_POSITIVE: _Check = (lambda v: v > 0, "must be above 0")
_NOT_NEGATIVE: _Check = (lambda v: v >= 0, "must be 0 or more")
_SHARE: _Check = (lambda v: 0 <= v <= 1, "must lie between 0 and 1")
_BELOW_ONE: _Check = (lambda v: 0 <= v < 1, "must be at least 0 and below 1")

_RULES: dict[str, _Check] = {
    "seed": _NOT_NEGATIVE,
    "data.val_fraction": (lambda v: 0 < v < 1, "must lie between 0 and 1"),
    "data.batch_size": _POSITIVE,
    "data.eval_batch_size": _POSITIVE,
    "data.workers": _POSITIVE,
    "data.drawn.train": (lambda v: v >= 2, "must be 2 or more"),
    "data.drawn.val": (lambda v: v >= 2, "must be 2 or more"),
    "data.drawn.size": (lambda v: 16 <= v <= 1024, "must lie between 16 and 1024 pixels"),
    "convert.calib_images": _POSITIVE,
    "convert.gelu": (lambda v: v in ("exact", "tanh"), "must be exact or tanh"),
    "distill.temperature": _POSITIVE,
    **{f"distill.{name}": _NOT_NEGATIVE for name in ("kl", "alpha", "feature", "attention")},
    **{f"convert.gate.{name}": _SHARE for name in ("float_cosine", "fp16_cosine", "int8_cosine", "plan_cosine", "agreement")},
}
_AUGMENT_RULES: dict[str, _Check] = {
    "views": _NOT_NEGATIVE,
    "crop_scale": (lambda v: 0 < v[0] <= v[1] <= 1, "must be two shares, 0 < low <= high <= 1"),
    "crop_ratio": (lambda v: 0 < v[0] <= v[1], "must be two ratios, 0 < low <= high"),
    "hflip": _SHARE,
    "rotate": (lambda v: 0 <= v <= 180, "must lie between 0 and 180 degrees"),
    "color_jitter": _SHARE,
    "gray": _SHARE,
    "auto": (lambda v: v in ("none", "trivial"), "must be none or trivial"),
    "erase": _SHARE,
    "mixup": _NOT_NEGATIVE,
    "cutmix": _NOT_NEGATIVE,
    "mix_prob": _SHARE,
}
_TRAIN_RULES: dict[str, _Check] = {
    "epochs": _POSITIVE,
    "lr": _POSITIVE,
    "min_lr": _NOT_NEGATIVE,
    "warmup_epochs": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "betas": (lambda v: all(0 <= b < 1 for b in v), "must be two numbers from 0 to below 1"),
    "eps": _POSITIVE,
    "clip_norm": _NOT_NEGATIVE,
    "label_smoothing": _BELOW_ONE,
    "ema": _BELOW_ONE,
    "early_stop": _NOT_NEGATIVE,
    "save_minutes": _POSITIVE,
}
_QAT_RULES: dict[str, _Check] = {
    **{
        k: _TRAIN_RULES[k]
        for k in ("epochs", "lr", "min_lr", "warmup_epochs", "weight_decay", "clip_norm", "ema", "save_minutes")
    },
    "mode": (lambda v: v in ("int8", "weight"), "must be int8 or weight"),
    "bits": (lambda v: 2 <= v <= 8, "must lie between 2 and 8"),
    "group": _NOT_NEGATIVE,
    "activation": (lambda v: v in ("lsq", "ema"), "must be lsq or ema"),
    "momentum": (lambda v: 0 < v <= 1, "must be above 0 and at most 1"),
    "calib_images": _POSITIVE,
    "freeze_epochs": _NOT_NEGATIVE,
    "scale_lr": _NOT_NEGATIVE,
    "temperature": _POSITIVE,
    "kl": _NOT_NEGATIVE,
    "alpha": _NOT_NEGATIVE,
}
_MODEL_RULES: dict[str, _Check] = {"image_size": (lambda v: 16 <= v <= 2048, "must lie between 16 and 2048 pixels")}

_RULES |= {f"{owner}.{k}": c for owner in ("data.augment", "teacher.augment", "qat.augment") for k, c in _AUGMENT_RULES.items()}
_RULES |= {f"{owner}.{k}": c for owner in ("train", "teacher.train") for k, c in _TRAIN_RULES.items()}
_RULES |= {f"{owner}.{k}": c for owner in ("model", "teacher.model") for k, c in _MODEL_RULES.items()}
_RULES |= {f"qat.{k}": c for k, c in _QAT_RULES.items()}
_SOURCES = ("model", "recipe", "checkpoint", "onnx")
QUANT_NAMES = {
    "none": "none",
    "float": "none",
    "fp16": "fp16",
    "posttraining": "PostTraining",
    "ptq": "PostTraining",
    "full_quant": "PostTraining",
    "int8": "PostTraining",
    "weightquant": "WeightQuant",
    "weight": "WeightQuant",
    "weight_quant": "WeightQuant",
    "awaretraining": "AwareTraining",
    "aware_training": "AwareTraining",
    "qat": "AwareTraining",
}


def quant_name(word: str) -> str | None:
    """The canonical name of a quantisation mode in any spelling, or None."""
    return QUANT_NAMES.get(word.lower().replace("-", "_"))


def check(recipe: Recipe, root: Node) -> None:
    """Raise RecipeError, naming file, line and key, for the first value that makes no sense."""
    for key, (holds, must) in _RULES.items():
        value = _get(recipe, key)
        if value is not None and not holds(value):
            raise RecipeError(f"{_where(root, key)}: '{key}' is {_shown(value)} and {must}")
    for key, message in _cross_checks(recipe):
        raise RecipeError(f"{_where(root, key)}: {message}")


def _cross_checks(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for mode in recipe.convert.quant:
        if quant_name(mode) is None:
            yield (
                "convert.quant",
                f"'convert.quant' has '{mode}', which is none of {', '.join(dict.fromkeys(QUANT_NAMES.values()))}",
            )
    if recipe.train.min_lr > recipe.train.lr:
        yield "train.min_lr", "'train.min_lr' is above 'train.lr'"
    yield from _qat_checks(recipe)
    if recipe.teacher is None:
        return
    given = [name for name in _SOURCES if getattr(recipe.teacher, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield "teacher", f"'teacher' needs exactly one of {', '.join(_SOURCES)}; it has {found}"
    if recipe.teacher.train and not recipe.teacher.model:
        yield "teacher.train", "'teacher.train' has a meaning only beside 'teacher.model'"
    d = recipe.distill
    if not (d.kl or d.feature or d.attention):
        yield "distill", "'distill' gives the teacher no weight: kl, feature and attention are all 0"
    if recipe.teacher.onnx and (d.feature or d.attention):
        yield "distill", "an ONNX teacher gives logits only: 'distill.feature' and 'distill.attention' must be 0"


def _qat_checks(recipe: Recipe) -> Iterator[tuple[str, str]]:
    q = recipe.qat
    if q is None:
        return
    if q.min_lr > q.lr:
        yield "qat.min_lr", "'qat.min_lr' is above 'qat.lr'"
    if q.mode == "int8" and (q.bits != 8 or q.group):
        yield "qat.bits", "'qat.mode' int8 has 8 bits and no groups; fewer are for mode weight"
    if not (q.kl or q.alpha):
        yield "qat", "'qat' has no loss: kl and alpha are both 0"
    if q.freeze_epochs >= q.epochs:
        yield "qat.freeze_epochs", f"'qat.freeze_epochs' is {q.freeze_epochs}: of {q.epochs} epochs none learns scales"


def _get(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _where(root: Node, key: str) -> str:
    """File and line of `key`, or of its nearest parent that is written down."""
    node = root
    for part in key.split("."):
        if not isinstance(node.value, dict) or part not in node.value:
            break
        node = node.value[part]
    return node.where
