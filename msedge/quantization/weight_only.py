"""Plans that store weights with few bits and compute in float.

Lite 2.0.0 stores a constant in about as many bits as its values carry (`fse.py`). So few bits on average do not need few
values: by default each tensor gets one uniform grid, as fine as pays. Noise in a weight costs accuracy by the tensor's gain
(how much of it reaches the logits), a finer grid costs bytes; for one price of a byte everywhere, every tensor takes
its cheapest grid, and the price is the lowest that keeps the mean at `bits` per weight ("reverse water-filling", Cover and
Thomas, Elements of Information Theory, 10.3; uniform grids with entropy coding, Gish and Pierce 1968).

With `grid="uniform"` each weight has `bits` bits instead, one scale per output channel or per group: what training with
fake quantisation usually takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from msedge.errors import DataError, UserError
from msedge.progress import Progress, no_progress
from msedge.quantization.fse import encoded_size
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.plan import MAX_BITS, MIN_BITS, NodePlan, Plan, TensorPlan

GRIDS = ("entropy", "uniform")
_HALF_BITS = 12  # numbers of 12 bits times a power of two are exact in float16
_SMALL = 4096  # elements; smaller weights of a uniform plan get 12 bits: they matter most and weigh nothing
_SHARE = 0.98  # of the bits, for the weights; the rest is for the file around them
_TRUST = 0.75  # gains are estimates from a few images: this power of them is used
_IMAGES, _NOISE = 4, 0.02
_STEPS = 2.0 ** (np.arange(-27, 3) / 3)  # of a grid, in root mean squares of its tensor
_FRACTIONS = np.linspace(0.4, 1, 31)  # of the largest weight, tried as the end of a uniform grid


class _Choice(NamedTuple):
    """A way to store a tensor: bytes, sum of squared errors, and the plan (None: float)."""

    size: float
    error: float
    plan: TensorPlan | None


def make_weight_plan(
    graph: ModelGraph,
    bits: float = 8,
    group: int = 0,
    *,
    grid: str | None = None,
    floats: Sequence[str] = (),
    images: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Plan:
    """A plan of precision "weight" for every Conv, Gemm and MatMul with a constant weight.

    `bits`: the mean of what is stored per weight ("entropy", any number), or the width of every weight ("uniform", an
    integer). `grid` is "entropy", or "uniform" where `group` is given: one scale for at most so many neighbours of an output
    channel; 0 is one per channel. `floats` are patterns of node names that stay float. `images` (float32 [N, 3, H, W],
    preprocessed) find the gains; without them drawn ones do, about as well.

    Raises UserError for settings that make no sense, DataError for images of another shape or with NaN.
    """
    grid = grid or ("uniform" if group else "entropy")
    _check(bits, group, grid)
    kept = _matching(graph, floats)
    units = {u.weight: u for u in graph.units.values() if u.weight is not None and u.name not in kept}
    units = {
        weight: u for weight, u in units.items() if not any(o.weight == weight for n, o in graph.units.items() if n in kept)
    }
    if grid == "uniform":
        tensors = {name: _uniform(graph, unit, int(bits), group) for name, unit in units.items()}
    else:
        gains = noise_gains(graph, list(units), images, seed, progress)
        tensors = _allot({name: graph.weights[name] for name in units}, gains, bits)
    nodes = {u.name: _node(u, tensors, kept) for u in graph.units.values() if u.weight is not None}
    made_by = {"method": "weight-only", "grid": grid, "bits": bits, "group": group, "floats": list(floats)}
    return Plan(graph.fingerprint, {n: t for n, t in tensors.items() if t is not None}, nodes, made_by)


def _check(bits: float, group: int, grid: str) -> None:
    if grid not in GRIDS:
        raise UserError(f"there is no grid '{grid}'", f"one of {', '.join(GRIDS)}")
    if not MIN_BITS <= bits <= MAX_BITS or (grid == "uniform" and bits != int(bits)):
        raise UserError(f"weights cannot have {bits} bits", f"{MIN_BITS} to {MAX_BITS}; 8, 6 and 4 are usual")
    if group != int(group) or group < 0:
        raise UserError(f"a group of {group} weights is none", "16 to 128 are usual; 0 is one scale per output channel")
    if group and grid == "entropy":
        raise UserError("an entropy grid has one scale per tensor, not per group", "leave out the group, or take grid uniform")


def _matching(graph: ModelGraph, patterns: Sequence[str]) -> dict[str, str]:
    """The nodes that patterns name, and which pattern does."""
    found: dict[str, str] = {}
    for pattern in patterns:
        names = [n for n in graph.units if fnmatchcase(n, pattern)]
        if not names:
            first = next(iter(graph.units), "")
            raise UserError(f"no node that can be quantised is named {pattern!r}", f"nodes are named like {first!r}")
        found |= dict.fromkeys(names, pattern)
    return found


def _node(unit: Unit, tensors: dict[str, TensorPlan | None], kept: dict[str, str]) -> NodePlan:
    if unit.name in kept:
        return NodePlan("float", f"named by {kept[unit.name]!r}")
    if tensors.get(unit.weight) is None:
        return NodePlan("float", "few weights that count" if unit.weight in tensors else "a float node shares its weight")
    return NodePlan("weight")


def noise_gains(
    graph: ModelGraph,
    weights: Sequence[str],
    images: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, float]:
    """For each initialiser: the squared change of the logits per squared change of one of its weights, measured with small
    noise in all of them, the mean over images. Raises DataError for images that do not fit or are not finite."""
    from msedge.quantization.onnx_simulation import open_session

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for name in weights:  # an initialiser that is an input too can be given for one run
        model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, graph.weights[name].shape))
    session = open_session(model)
    batches = _batches(graph, images, seed)
    rng = np.random.default_rng(seed)
    clean = [session.run([graph.output], {graph.input: x})[0] for x in batches]
    gains = {}
    with progress("measure gains", len(weights)) as report:
        for name in weights:
            weight, total = graph.weights[name], 0.0
            sigma = _NOISE * _rms(weight)
            for x, logits in zip(batches, clean, strict=True):
                noisy = (weight + sigma * rng.standard_normal(weight.shape)).astype(np.float32)
                total += float(np.sum(np.square(session.run([graph.output], {graph.input: x, name: noisy})[0] - logits)))
            gains[name] = max(total / len(batches) / (sigma**2 * weight.size), 1e-30)
            report(len(gains))
    return gains


def _batches(graph: ModelGraph, images: np.ndarray | None, seed: int) -> list[np.ndarray]:
    shape = [d.dim_value for d in next(i for i in graph.model.graph.input if i.name == graph.input).type.tensor_type.shape.dim]
    if images is None:
        rng = np.random.default_rng(seed)
        images = np.stack([_drawn(rng, shape[1:]) for _ in range(_IMAGES)])
    if images.ndim != 4 or list(images.shape[1:]) != shape[1:] or not len(images):
        raise DataError(f"images are {list(images.shape)}, the model takes {['N', *shape[1:]]}")
    if not np.isfinite(images).all():
        raise DataError("there are numbers in the images that are not finite", "check the images and their preprocessing")
    few = images[np.linspace(0, len(images) - 1, min(_IMAGES, len(images))).round().astype(int)]
    return [np.repeat(x[None], shape[0], 0).astype(np.float32) for x in few]


def _drawn(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """A smooth random picture, values in 0 to 1."""
    channels, *size = shape
    image = rng.random((channels, 6, 6))
    for axis, length in zip((1, 2), size, strict=True):
        places = np.linspace(0, 5, length)
        image = np.apply_along_axis(lambda row, at=places: np.interp(at, np.arange(6), row), axis, image)
    return image


def _rms(weight: np.ndarray) -> float:
    return max(float(np.sqrt(np.mean(np.square(weight, dtype=np.float64)))), 1e-12)


def _allot(weights: dict[str, np.ndarray], gains: dict[str, float], bits: float) -> dict[str, TensorPlan | None]:
    """The cheapest way for each tensor at the lowest price of a byte that keeps all within `bits` per weight."""
    ways = {name: _ways(weight) for name, weight in weights.items()}
    value = {name: gains[name] ** _TRUST for name in weights}
    room = _SHARE * bits / 8 * sum(w.size for w in weights.values())

    def at(price: float) -> dict[str, _Choice]:
        return {name: min(ways[name], key=lambda c: value[name] * c.error + price * c.size) for name in ways}

    low, high = -120.0, 40.0  # log2; everything float, everything coarsest
    for _ in range(50):
        middle = (low + high) / 2
        if sum(c.size for c in at(2.0**middle).values()) > room:
            low = middle
        else:
            high = middle
    return {name: choice.plan for name, choice in at(2.0**high).items()}


def _ways(weight: np.ndarray) -> list[_Choice]:
    flat = weight.ravel().astype(np.float64)
    peak, rms = float(np.abs(flat).max()), _rms(weight)
    ways = [_Choice(4.0 * flat.size, 0.0, None), _on_grid(flat, _half_step(peak), 2.0 * flat.size)]
    return ways + [_on_grid(flat, step) for step in _STEPS * rms if peak / step < 2 ** (_HALF_BITS - 1) - 0.5]


def _on_grid(flat: np.ndarray, step: float, size: float | None = None) -> _Choice:
    """One uniform grid; without a `size` the tensor is entropy coded."""
    stored = np.rint(flat / step)
    reach = int(np.abs(stored).max())
    if size is None:
        counts = np.bincount((stored + reach).astype(np.int64))
        size = encoded_size(counts[counts > 0])
    plan = TensorPlan("weight", (step,), (0,), max(MIN_BITS, reach.bit_length() + 1), True)
    return _Choice(size, float(np.sum(np.square(stored * step - flat))), plan)


def _half_step(peak: float) -> float:
    """The power of two that holds everything up to `peak` in numbers that float16 represents exactly."""
    return 2.0 ** max(math.ceil(math.log2(max(peak, 1e-12) / (2 ** (_HALF_BITS - 1) - 1))), -24)


def _uniform(graph: ModelGraph, unit: Unit, bits: int, group: int) -> TensorPlan:
    weight = graph.weights[unit.weight]
    if weight.size < _SMALL and bits < _HALF_BITS:
        return _on_grid(weight.ravel().astype(np.float64), _half_step(float(np.abs(weight).max())), 0).plan
    rows = np.moveaxis(weight, unit.axis, 0).reshape(weight.shape[unit.axis], -1).astype(np.float64)
    group = _fitting(unit, weight.shape, group)
    scale = _scales(rows.reshape(-1, group) if group else rows, bits)
    return TensorPlan("weight", tuple(scale.tolist()), (0,) * len(scale), bits, True, unit.axis, group)


def _fitting(unit: Unit, shape: tuple[int, ...], group: int) -> int:
    """The largest group up to `group` that divides a row, whole kernels in convolutions; 0 where that is the row itself."""
    kernel = math.prod(shape[2:]) if unit.op == "Conv" else 1
    channels = shape[1] if unit.op == "Conv" else math.prod(shape) // shape[unit.axis]
    fits = [m for m in range(1, channels) if channels % m == 0 and m * kernel <= group]
    return max(fits) * kernel if fits and max(fits) * kernel > 1 else 0


def _scales(rows: np.ndarray, bits: int) -> np.ndarray:
    """For each row the scale with the least squared error, as float16 has it where it can."""
    high = 2 ** (bits - 1) - 1
    peak = np.maximum(np.abs(rows).max(1), 1e-9)
    best, least = peak / high, np.full(len(rows), np.inf)
    for fraction in _FRACTIONS:
        scale = fraction * peak / high
        if scale.min() >= 2.0**-14:
            scale = scale.astype(np.float16).astype(np.float64)
        stored = np.clip(np.rint(rows / scale[:, None]), -high, high)
        error = np.sum(np.square(stored * scale[:, None] - rows), 1)
        best, least = np.where(error <= least, scale, best), np.minimum(error, least)
    return best
