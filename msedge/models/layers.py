"""Thin layers with timm's parameter names, made of few plain operators that train fast and export cleanly.

All of them take and give float32. Token layers work on 2-D tensors [rows, channels]: one matrix product per layer.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from msedge.models.cpu_gradients import RowNorm, SameDepthwise, on_cpu  # noqa: E402
from msedge.models.native import operators as native  # noqa: E402

_mask_number = itertools.count()  # MindSpore wants all parameters of a graph to have different names


def _zeros(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


def _ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.float32))


def truncated_normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    """Normal values with the tails beyond two standard deviations clipped."""
    return np.clip(rng.standard_normal(shape), -2, 2).astype(np.float32) * np.float32(std)


class Conv2d(nn.Cell):
    """Convolution, NCHW, padding kernel // 2 unless given. Parameters `weight` [out, in / groups, k, k] and `bias`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: int | None = None,
    ):
        super().__init__()
        self.shape = (outputs, inputs // groups, kernel, kernel)
        self.groups = groups
        self.weight = Parameter(_zeros(*self.shape), name="weight")
        self.bias = Parameter(_zeros(outputs), name="bias") if bias else None
        self.has_bias = bias
        padding = kernel // 2 if padding is None else padding
        self.conv = ops.Conv2D(outputs, kernel, pad_mode="pad", pad=padding, stride=stride, group=groups)
        depthwise = groups == inputs == outputs and kernel == 2 * padding + 1 and stride in (1, 2)
        self.native = depthwise and kernel <= 7 and native.available()
        if self.native:
            self.learning = native.Depthwise(stride)
        elif depthwise and stride == 1 and on_cpu():
            self.conv = SameDepthwise(self.conv, kernel)
        self.add_bias = ops.BiasAdd()

    def reset(self, rng: np.random.Generator) -> None:
        """Kaiming normal over the fan out, as timm starts its convolutional networks."""
        outputs, _, kernel, _ = self.shape
        fan_out = kernel * kernel * outputs // self.groups
        self.weight.set_data(Tensor((rng.standard_normal(self.shape) * (2 / fan_out) ** 0.5).astype(np.float32)))

    def construct(self, x):
        x = self.learning(x, self.weight) if self.training and self.native else self.conv(x, self.weight)
        if self.has_bias:
            x = self.add_bias(x, self.bias)
        return x


class BatchNorm2d(nn.Cell):
    """Batch statistics while training, running ones otherwise (eps 1e-5, momentum 0.1 of the new value)."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1, weight: float = 1.0):
        super().__init__()
        self.first_weight = weight
        self.weight = Parameter(_ones(channels), name="weight")
        self.bias = Parameter(_zeros(channels), name="bias")
        self.running_mean = Parameter(_zeros(channels), name="running_mean", requires_grad=False)
        self.running_var = Parameter(_ones(channels), name="running_var", requires_grad=False)
        self.eps, self.momentum = eps, momentum
        self.native = native.available()
        self.learning = ops.BatchNorm(is_training=True, epsilon=eps, momentum=momentum)
        self.with_act = native.BatchNormAct(eps, momentum, "none") if self.native else None
        self.fixed = ops.BatchNorm(is_training=False, epsilon=eps)

    def reset(self, rng: np.random.Generator) -> None:
        self.weight.set_data(Tensor(np.full(self.weight.shape, self.first_weight, np.float32)))

    def construct(self, x):
        if self.training and self.native:
            return self.learn(x, self.with_act)
        if self.training:
            return self.learning(x, self.weight, self.bias, self.running_mean, self.running_var)[0]
        return self.fixed(x, self.weight, self.bias, self.running_mean, self.running_var)[0]

    def learn(self, x, with_act):
        """Normalise with the statistics of the batch by a `native.BatchNormAct` and update the running ones."""
        y, _, _, mean, var = with_act(x, self.weight, self.bias, self.running_mean, self.running_var)
        ops.assign(self.running_mean, ops.stop_gradient(mean))
        ops.assign(self.running_var, ops.stop_gradient(var))
        return y


class Linear(nn.Cell):
    """[rows, in] to [rows, out]. Parameters `weight` [out, in] and `bias` [out]."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, std: float = 0.02):
        super().__init__()
        self.std = std
        self.weight = Parameter(_zeros(outputs, inputs), name="weight")
        self.bias = Parameter(_zeros(outputs), name="bias") if bias else None
        self.has_bias = bias
        self.matmul = ops.MatMul(transpose_b=True)
        self.native = native.available()
        self.add_bias = ops.BiasAdd()
        self.learning = native.Linear() if self.native else None
        self.learning_bias = native.LinearBias() if self.native and bias else None

    def reset(self, rng: np.random.Generator) -> None:
        self.weight.set_data(Tensor(truncated_normal(rng, self.weight.shape, self.std)))

    def construct(self, x):
        if self.training and self.native and self.has_bias:
            return self.learning_bias(x, self.weight, self.bias)
        x = self.product(x)
        if self.has_bias:
            x = self.add_bias(x, self.bias)
        return x

    def product(self, x):
        """Without the bias."""
        return self.learning(x, self.weight) if self.training and self.native else self.matmul(x, self.weight)


class LayerNorm(nn.Cell):
    """Over the last axis. Parameters `weight` and `bias`."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.weight = Parameter(_ones(channels), name="weight")
        self.bias = Parameter(_zeros(channels), name="bias")
        self.own = on_cpu()
        self.native = native.available()
        norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)
        self.norm = RowNorm(eps) if self.own else norm
        self.learning = native.LayerNorm(eps) if self.native else None

    def construct(self, x):
        """[rows, channels]."""
        if self.training and self.native:
            return self.learning(x, self.weight, self.bias)[0]
        y = self.norm(x, self.weight, self.bias)
        return y if self.own else y[0]


class Silu(nn.Cell):
    """x * sigmoid(x)."""

    def __init__(self):
        super().__init__()
        self.native = native.available()
        self.learning = native.Act("silu") if self.native else None

    def construct(self, x):
        return self.learning(x) if self.training and self.native else ops.silu(x)


class Gelu(nn.Cell):
    """The exact GELU, x * Phi(x): faster here than the tanh form, and what the runtimes fuse."""

    def __init__(self):
        super().__init__()
        self.native = native.available()
        self.learning = native.Act("gelu") if self.native else None

    def construct(self, x):
        if self.training and self.native:
            return self.learning(x)
        return x * (ops.erf(x * 0.7071067811865476) + 1.0) * 0.5


class Identity(nn.Cell):
    def construct(self, x):
        return x


ACTIVATIONS = {"silu": Silu, "gelu": Gelu, "none": Identity}


class ConvNormAct(nn.Cell):
    """Convolution without bias (`conv`), BatchNorm (`bn`) and an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: str = "silu",
        bn_weight: float = 1.0,
    ):
        super().__init__()
        self.conv = Conv2d(inputs, outputs, kernel, stride, groups)
        self.bn = BatchNorm2d(outputs, weight=bn_weight)
        self.act = ACTIVATIONS[act]()
        self.native = native.available()
        self.learning = native.BatchNormAct(self.bn.eps, self.bn.momentum, act) if self.native else None

    def construct(self, x):
        x = self.conv(x)
        if self.training and self.native:
            return self.bn.learn(x, self.learning)
        return self.act(self.bn(x))


class Mlp(nn.Cell):
    """`fc1`, activation, `fc2` on [rows, channels]; with `norm` a LayerNorm of that name before them."""

    def __init__(self, channels: int, hidden: int, act: str, norm: bool = False):
        super().__init__()
        self.norm = LayerNorm(channels) if norm else Identity()
        self.fc1 = Linear(channels, hidden)
        self.act = ACTIVATIONS[act]()
        self.fc2 = Linear(hidden, channels)
        self.native = act != "none" and native.available()
        self.learning = native.BiasAct(act) if self.native else None

    def construct(self, x):
        x = self.norm(x)
        if self.training and self.native:
            return self.fc2(self.learning(self.fc1.product(x), self.fc1.bias))
        return self.fc2(self.act(self.fc1(x)))


class DropPath(nn.Cell):
    """Stochastic depth without hidden random state (Huang et al. 2016, arXiv:1603.09382).

    The training loop calls `refresh` before each step; the mask is data of the step, so a resumed run draws the same.
    It is no parameter of the model: not in `get_parameters`, not in checkpoints. Outside training, and at rate 0, no
    operator is added.

    MindSpore sees refreshed masks only where the step is a Cell called in GRAPH_MODE. Under `ms.jit` (2.10) every
    parameter keeps for ever the value it had at the first call, whatever `set_data` says later.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        mask = Parameter(_ones(1, 1), name=f"drop_path_mask_{next(_mask_number)}", requires_grad=False)
        object.__setattr__(self, "mask", mask)

    def refresh(self, generator: np.random.Generator, batch: int) -> None:
        """Draw which of the `batch` samples keep this branch: [batch, 1], values 0 or 1 / (1 - rate)."""
        keep = generator.random((batch, 1)) >= self.rate
        mask = Tensor((keep / (1 - self.rate)).astype(np.float32))
        self.mask.set_data(mask, slice_shape=self.mask.shape != mask.shape)

    def construct(self, x, batch: int):
        """`x`: a tensor whose elements are sorted by sample, as [batch, ...] or [batch * rows, channels]."""
        if self.training and self.rate > 0:
            return (x.reshape(batch, -1) * self.mask).reshape(x.shape)
        return x


def drop_rates(last: float, blocks: Sequence[Sequence]) -> list[float]:
    """Rates of stochastic depth that rise linearly from 0 to `last` over all blocks of all stages."""
    count = sum(len(stage) for stage in blocks)
    return [last * i / max(1, count - 1) for i in range(count)]


def drop_path_sites(model: nn.Cell) -> list[DropPath]:
    """All places of a model with stochastic depth, in the order of the network; empty where the rate is 0."""
    return [cell for _, cell in model.cells_and_names() if isinstance(cell, DropPath) and cell.rate > 0]


def state(model: nn.Cell) -> dict[str, Parameter]:
    """What a checkpoint holds: learned parameters and running statistics by name, in the order of the network."""
    return dict(model.parameters_dict())


def initialize(model: nn.Cell, seed: int) -> None:
    """Give every layer its first values, a function of the seed and the layer's name alone."""
    for name, cell in model.cells_and_names():
        if hasattr(cell, "reset"):
            cell.reset(np.random.default_rng([seed, zlib.crc32(name.encode())]))
