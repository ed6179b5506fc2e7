"""PoolFormer (Yu et al., "MetaFormer Is Actually What You Need for Vision", arXiv:2111.11418)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Parameter, Tensor, nn  # noqa: E402

from msedge.errors import ModelError  # noqa: E402
from msedge.models.attention import to_map, to_tokens  # noqa: E402
from msedge.models.layers import Conv2d, DropPath, Gelu, LayerNorm, Linear, drop_rates, truncated_normal  # noqa: E402
from msedge.models.maps import LayerScale, Pointwise, Pooling, Scale, Spread  # noqa: E402
from msedge.models.registry import register  # noqa: E402

SMALLEST = 32  # pixels: one place is left in the last stage


@dataclass(frozen=True)
class PoolFormerConfig:
    """Every width. `dim` has an entry for each stage, `mlp` one for each block of each stage."""

    dim: tuple[int, ...] = (64, 128, 320, 512)
    mlp: tuple[tuple[int, ...], ...] = ((256,) * 2, (512,) * 2, (1280,) * 6, (2048,) * 2)  # hidden channels
    drop_path: float = 0.0  # rate of the last block; rises linearly from 0

    def check(self, image_size: int) -> None:
        """Raises ModelError for images that are too small, and where the widths do not fit together."""
        if image_size < SMALLEST:
            raise ModelError(f"PoolFormer cannot take images of {image_size} px", f"any size from {SMALLEST} on will do")
        if len(self.mlp) != len(self.dim):
            raise ModelError("PoolFormer: dim and mlp differ in their numbers of stages")

    def sides(self, image_size: int) -> list[int]:
        """Places along a side of each stage's map."""
        found = [(image_size - 3) // 4 + 1]
        while len(found) < len(self.dim):
            found.append((found[-1] + 1) // 2)
        return found


class StridedConv(Conv2d):
    """With a bias; starts as all weights of PoolFormer do."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int):
        super().__init__(inputs, outputs, kernel, stride, bias=True, padding=padding)

    def reset(self, rng: np.random.Generator) -> None:
        self.weight.set_data(Tensor(truncated_normal(rng, self.weight.shape, 0.02)))


class Downsampling(nn.Cell):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.conv = StridedConv(inputs, outputs, kernel, stride, padding)

    def construct(self, x):
        return self.conv(x)


class GroupNorm(nn.Cell):
    """One group: gives the centred map and its deviation; whoever reads them applies `weight` and `bias`."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = Parameter(Tensor(np.ones(channels, np.float32)), name="weight")
        self.bias = Parameter(Tensor(np.zeros(channels, np.float32)), name="bias")
        self.spread = Spread()

    def construct(self, x):
        return self.spread(x)


class Mlp(nn.Cell):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1 = Pointwise(channels, hidden)
        self.act = Gelu()
        self.fc2 = Pointwise(hidden, channels)

    def construct(self, x, weight, bias, scale):
        """Of x * weight + bias, times scale. On rows while training (see `Pointwise`)."""
        y = to_tokens(x) if self.training else x
        y = self.fc2.scaled(self.act(self.fc1.of_affine(y, weight, bias)), scale)
        return to_map(y, x.shape[2]) if self.training else y


class PoolFormerBlock(nn.Cell):
    """x + scale1 * (pool - 1)(norm1(x)), then x + scale2 * mlp(norm2(x)).

    A mean over neighbours less the place itself is zero for a constant: of the first norm only the deviation and the
    weight count, its mean and its bias cancel.
    """

    def __init__(self, dim: int, hidden: int, drop: float, side: int):
        super().__init__()
        self.norm1 = GroupNorm(dim)
        self.token_mixer = Pooling(dim, side)
        self.drop_path1 = DropPath(drop)
        self.layer_scale1 = LayerScale(dim, "scale")
        self.norm2 = GroupNorm(dim)
        self.mlp = Mlp(dim, hidden)
        self.drop_path2 = DropPath(drop)
        self.layer_scale2 = LayerScale(dim, "scale")
        self.scale = Scale()

    def construct(self, x):
        batch = x.shape[0]
        centred, deviation = self.norm1(x)
        factor = (self.norm1.weight * self.layer_scale1.scale).reshape(1, -1, 1, 1) / deviation
        x = x + self.drop_path1(self.scale(self.token_mixer(centred), factor), batch)
        centred, deviation = self.norm2(x)
        y = self.mlp(self.scale(centred, 1.0 / deviation), self.norm2.weight, self.norm2.bias, self.layer_scale2.scale)
        return x + self.drop_path2(y, batch)


class PoolFormerStage(nn.Cell):
    def __init__(self, inputs: int | None, dim: int, widths: list[tuple], side: int):
        super().__init__()
        self.reduces = inputs is not None
        if self.reduces:
            self.downsample = Downsampling(inputs, dim, 3, 2, 1)
        self.blocks = nn.CellList([PoolFormerBlock(dim, *w, side) for w in widths])

    def construct(self, x):
        if self.reduces:
            x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class Head(nn.Cell):
    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = LayerNorm(channels, eps=1e-6)
        self.fc = Linear(channels, classes)

    def construct(self, x):
        return self.fc(self.norm(x.mean((2, 3))))


class PoolFormer(nn.Cell):
    """`construct`: float32 [N, 3, S, S] to logits [N, classes]. `taps`: also the stages' outputs; there is no attention."""

    def __init__(self, config: PoolFormerConfig, num_classes: int, image_size: int):
        super().__init__()
        dim = config.dim
        rates = iter(drop_rates(config.drop_path, config.mlp))
        self.stem = Downsampling(3, dim[0], 7, 4, 2)
        stages = []
        for i, side in enumerate(config.sides(image_size)):
            widths = [(hidden, next(rates)) for hidden in config.mlp[i]]
            stages.append(PoolFormerStage(dim[i - 1] if i else None, dim[i], widths, side))
        self.stages = nn.CellList(stages)
        self.head = Head(dim[-1], num_classes)

    def taps(self, x):
        x = self.stem(x)
        features = ()
        for stage in self.stages:
            x = stage(x)
            features += (x,)
        return self.head(x), features, ()

    def construct(self, x):
        return self.taps(x)[0]


@register(PoolFormer, image_size=224, crop_pct=0.9, interpolation="bicubic")
def poolformer_s12(image_size: int) -> PoolFormerConfig:
    return PoolFormerConfig()
