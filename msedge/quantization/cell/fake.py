"""Fake quantisation as cells with learned parameters: compiled operators where there are any, MindSpore's otherwise.

Rounding is passed straight through by gradients. Scales are learned as their logarithms, so that one learning rate fits
all (Jain et al., arXiv:1903.08066), zero points as shares of the range of stored numbers (LSQ+, arXiv:2004.09576).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.quantization.plan import TensorPlan

load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from msedge.models.native import fake_quant as compiled  # noqa: E402
from msedge.models.native import operators as native  # noqa: E402

LEARNED = ("lsq", "ema")  # step sizes by gradients (LSQ, arXiv:1902.08153), or from moving averages of the extremes


class PlainFakeQuantize(nn.Cell):
    """`native.fake_quant.FakeQuantize` in MindSpore's operators; also of rows, with a scale for each."""

    def __init__(self):
        super().__init__(auto_prefix=False)

    def construct(self, x, quantiser, limits):
        scale, low, high = self.settings(quantiser, limits)
        return ops.round(ops.clamp(x / scale, low, high)) * scale

    def settings(self, quantiser, limits):
        zero = ops.clamp(ops.round(quantiser[1] * limits[2]), limits[0], limits[1])
        return ops.exp(quantiser[0]), limits[0] - zero, limits[1] - zero

    def bprop(self, x, quantiser, limits, out, dout):
        scale, low, high = self.settings(quantiser, limits)
        v = x / scale
        inside = ops.logical_and(v >= low, v <= high).astype(x.dtype)
        factor = scale / ops.sqrt(limits[1] * x.size)
        by_scale = (dout * (out / scale - v * inside)).reshape(-1).sum() * factor
        by_zero = (dout * (inside - 1.0)).reshape(-1).sum() * factor * limits[2]
        return dout * inside, ops.stack((by_scale, by_zero)), ops.zeros_like(limits)


class PlainBiasFakeQuantize(nn.Cell):
    """`native.fake_quant.BiasFakeQuantize` in MindSpore's operators."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.add, self.fake = ops.BiasAdd(), PlainFakeQuantize()

    def construct(self, x, bias, quantiser, limits):
        return self.fake(self.add(x, bias), quantiser, limits)


class PlainObserve(nn.Cell):
    """`native.fake_quant.Observe` in MindSpore's operators."""

    def __init__(self):
        super().__init__(auto_prefix=False)

    def construct(self, x, extent, limits, momentum):
        flat = x.reshape(-1)
        reach = ops.stack((ops.minimum(flat.min(), 0.0), ops.maximum(flat.max(), 0.0)))
        extent = extent + momentum * (reach - extent)
        affine, span = (limits[2] > 0).astype(x.dtype), ops.maximum(limits[2], 1.0)
        wide, high = (extent[1] - extent[0]) / (limits[1] - limits[0]), ops.maximum(-extent[0], extent[1]) / limits[1]
        scale = ops.maximum(affine * wide + (1.0 - affine) * high, 1e-8)
        return extent, ops.stack((ops.log(scale), affine * ops.round(limits[0] - extent[0] / scale) / span))


class PlainFakeWeight(nn.Cell):
    """`native.fake_quant.FakeWeight` in MindSpore's operators."""

    def __init__(self, highest: int, group: int = 0):
        super().__init__(auto_prefix=False)
        self.highest, self.group = float(highest), group

    def rows(self, x, count: int):
        """[rows, ...] to [count, group], rows filled up with zeros."""
        x = x.reshape(x.shape[0], -1)
        if self.group and x.shape[1] % self.group:
            x = ops.pad(x, (0, self.group - x.shape[1] % self.group))
        return x.reshape(count, -1)

    def back(self, x, weight):
        columns = weight.size // weight.shape[0]
        return x.reshape(weight.shape[0], -1)[:, :columns].reshape(weight.shape)

    def construct(self, weight, log_scales):
        scale = ops.exp(log_scales).reshape(-1, 1)
        rows = self.rows(weight, log_scales.shape[0])
        return self.back(ops.round(ops.clamp(rows / scale, -self.highest, self.highest)) * scale, weight)

    def bprop(self, weight, log_scales, out, dout):
        count = log_scales.shape[0]
        scale = ops.exp(log_scales).reshape(-1, 1)
        v, d = self.rows(weight, count) / scale, self.rows(dout, count)
        inside = (ops.abs(v) <= self.highest).astype(weight.dtype)
        elements = self.rows(ops.ones_like(weight), count).sum(1)
        by_scale = (d * (self.rows(out, count) / scale - v * inside)).sum(1)
        by_log = by_scale * ops.exp(log_scales) / ops.sqrt(elements * self.highest)
        return self.back(d * inside, weight), by_log


class Quantiser(nn.Cell):
    """The stored form of one activation tensor. `learned`: lsq or ema; `momentum` [1] is the share of a batch's extremes
    in the moving averages, 0 to keep them."""

    def __init__(self, tensor: str, plan: TensorPlan, learned: str, momentum: Parameter, learn: bool):
        super().__init__(auto_prefix=False)
        if len(plan.scale) > 1:
            raise ModelError(f"the activation {tensor!r} has {len(plan.scale)} scales", "activations have one scale each")
        self.plan, self.follows = plan, learned == "ema"
        self.span = 0 if plan.symmetric else 2**plan.bits
        self.limits = Tensor(np.array([plan.low, plan.high, self.span], np.float32))
        name = f"{tensor}:{'range' if self.follows else 'quantiser'}"
        self.value = Parameter(self._value(plan), name=name, requires_grad=learn and not self.follows)
        self.momentum, self.still = momentum, Tensor(np.zeros(1, np.float32))
        ready = native.available()
        self.fake = compiled.FakeQuantize() if ready else PlainFakeQuantize()
        self.fake_sum = compiled.BiasFakeQuantize() if ready else PlainBiasFakeQuantize()
        self.add = compiled.ChannelBias() if ready else ops.BiasAdd()
        self.observe = compiled.Observe() if ready else PlainObserve()

    def construct(self, x):
        return self.fake(x, self.current(x) if self.follows else self.value, self.limits)

    def of_sum(self, x, bias):
        """x [N, C, H, W] + bias [C], stored."""
        if self.follows:
            return self.construct(self.add(x, bias))
        return self.fake_sum(x, bias, self.value, self.limits)

    def current(self, x):
        """The quantiser that covers the moving averages, after this batch where the cell trains."""
        momentum = self.momentum if self.training else self.still
        extent, quantiser = self.observe(ops.stop_gradient(x), self.value, self.limits, momentum)
        if self.training:
            ops.assign(self.value, ops.stop_gradient(extent))
        return ops.stop_gradient(quantiser)

    def _value(self, plan: TensorPlan) -> Tensor:
        (scale,), (zero,) = plan.scale, plan.zero_point
        if self.follows:
            return Tensor(np.array([(plan.low - zero) * scale, (plan.high - zero) * scale], np.float32))
        return Tensor(np.array([math.log(scale), zero / max(1, self.span)], np.float32))

    def set_plan(self, plan: TensorPlan) -> None:
        """Store as `plan` says from now on; bits and symmetry stay."""
        self.value.set_data(self._value(plan))

    def to_plan(self) -> TensorPlan:
        """What the tensor is stored as now."""
        first, second = (float(v) for v in self.value.asnumpy())
        t = self.plan
        if not self.follows:
            scale, zero = math.exp(first), second * self.span
        elif t.symmetric:
            scale, zero = max(-first, second) / t.high, 0.0
        else:
            scale = max((second - first) / (t.high - t.low), 1e-8)
            zero = t.low - first / scale
        return replace(t, scale=(scale,), zero_point=(int(np.clip(np.rint(zero), t.low, t.high)),))


class StoredActivation(nn.Cell):
    """A tensor as `first` stores it, behind silu or gelu, and then as `second` stores it where there is one: one compiled
    operator for what are four passes. Both quantisers are of the kind that learns."""

    def __init__(self, first: Quantiser, act: str, second: Quantiser | None):
        super().__init__(auto_prefix=False)
        self.first, self.first_limits = first.value, first.limits
        once = (first.value, Tensor(np.zeros(3, np.float32)))
        self.second, self.second_limits = (second.value, second.limits) if second else once
        self.act, self.act_of_sum = compiled.StoredAct(act), compiled.BiasStoredAct(act)

    def construct(self, x):
        return self.act(x, self.first, self.first_limits, self.second, self.second_limits)

    def of_sum(self, x, bias):
        """Of x [N, C, H, W] + bias [C]."""
        return self.act_of_sum(x, bias, self.first, self.first_limits, self.second, self.second_limits)


class WeightQuantiser(nn.Cell):
    """The stored form of one weight: symmetric, one scale for the tensor, for each index of an axis, or for groups."""

    def __init__(self, name: str, shape: tuple[int, ...], plan: TensorPlan, learn: bool):
        super().__init__(auto_prefix=False)
        if not plan.symmetric:
            raise ModelError(f"the weight {name!r} is not symmetric", "weights are trained with symmetric scales")
        self.plan, self.shape = plan, shape
        self.whole = plan.axis is None or (len(plan.scale) == 1 and not plan.group)
        axis = 0 if self.whole else plan.axis
        self.order = (axis, *(i for i in range(len(shape)) if i != axis))
        self.back = tuple(int(i) for i in np.argsort(self.order))
        self.moves = axis != 0
        self.value = Parameter(self._value(plan), name=f"{name}:scale", requires_grad=learn)
        make = compiled.FakeWeight if native.available() else PlainFakeWeight
        self.fake = make(plan.high, plan.group)

    def construct(self, weight):
        if self.whole:
            return self.fake(weight.reshape(1, -1), self.value).reshape(self.shape)
        if self.moves:
            return self.fake(weight.transpose(self.order), self.value).transpose(self.back)
        return self.fake(weight, self.value)

    def _value(self, plan: TensorPlan) -> Tensor:
        return Tensor(np.log(np.asarray(plan.scale)).astype(np.float32))

    def set_plan(self, plan: TensorPlan) -> None:
        """Store as `plan` says from now on; bits, axis and groups stay."""
        self.value.set_data(self._value(plan))

    def to_plan(self) -> TensorPlan:
        """What the weight is stored as now."""
        scale = np.exp(self.value.asnumpy().astype(np.float64))
        return replace(self.plan, scale=tuple(float(s) for s in scale))
