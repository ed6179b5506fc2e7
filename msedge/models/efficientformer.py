"""EfficientFormer (Li et al., "EfficientFormer: Vision Transformers at MobileNet Speed", arXiv:2206.01191)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from msedge.errors import ModelError  # noqa: E402
from msedge.models.attention import received, to_map, to_tokens  # noqa: E402
from msedge.models.cpu_gradients import RowSoftmax, on_cpu  # noqa: E402
from msedge.models.layers import BatchNorm2d, Conv2d, DropPath, Gelu, Identity, LayerNorm, Linear, Mlp, drop_rates  # noqa: E402
from msedge.models.maps import LayerScale, Pooling, Scale  # noqa: E402
from msedge.models.registry import register  # noqa: E402

REDUCTION = 32  # pixels of the image for one of the last stage


@dataclass(frozen=True)
class EfficientFormerConfig:
    """Every width. `dim` has an entry for each stage, `mlp` one for each block of each stage; `heads`, `key_dim` and
    `value_dim` one for each attention block. Those are the last blocks of the last stage, all others pool."""

    stem: int = 24  # after the first of the two stem convolutions
    dim: tuple[int, ...] = (48, 96, 224, 448)
    mlp: tuple[tuple[int, ...], ...] = ((192,) * 3, (384,) * 2, (896,) * 6, (1792,) * 4)  # hidden channels
    heads: tuple[int, ...] = (8,)
    key_dim: tuple[int, ...] = (32,)  # channels of a head's queries and keys
    value_dim: tuple[int, ...] = (128,)  # and of its values
    drop_path: float = 0.0  # rate of the last block; rises linearly from 0

    def check(self, image_size: int) -> None:
        """Raises ModelError where the image is no multiple of the reduction, and where the widths do not fit together."""
        step = REDUCTION >> 4 << len(self.dim)
        if image_size % step:
            low = max(step, image_size // step * step)
            raise ModelError(f"EfficientFormer cannot take images of {image_size} px", f"sizes nearby: {low}, {low + step}")
        if len(self.mlp) != len(self.dim):
            raise ModelError("EfficientFormer: dim and mlp differ in their numbers of stages")
        if not len(self.heads) == len(self.key_dim) == len(self.value_dim):
            raise ModelError("EfficientFormer: heads, key_dim and value_dim differ in their numbers of blocks")
        if len(self.heads) > len(self.mlp[-1]):
            raise ModelError(
                f"EfficientFormer: {len(self.heads)} attention blocks in a last stage of {len(self.mlp[-1])}",
                "give heads, key_dim and value_dim fewer entries, or the last of mlp more",
            )


def offset_index(side: int) -> np.ndarray:
    """For each (query, key) of a grid the column of the bias table, by |dy|, |dx|: int32 [side^4]."""
    y, x = np.divmod(np.arange(side * side), side)
    return (abs(y[:, None] - y[None]) * side + abs(x[:, None] - x[None])).astype(np.int32).reshape(-1)


class ScaledBatchNorm2d(BatchNorm2d):
    """Takes a factor for each channel into its weight and bias: no pass over the map."""

    def construct(self, x, factor):
        weight, bias = self.weight * factor, self.bias * factor
        if self.training:
            return self.learning(x, weight, bias, self.running_mean, self.running_var)[0]
        return self.fixed(x, weight, bias, self.running_mean, self.running_var)[0]


class Stem(nn.Cell):
    def __init__(self, hidden: int, dim: int):
        super().__init__()
        self.conv1 = Conv2d(3, hidden, 3, 2, bias=True)
        self.norm1 = BatchNorm2d(hidden)
        self.conv2 = Conv2d(hidden, dim, 3, 2, bias=True)
        self.norm2 = BatchNorm2d(dim)

    def construct(self, x):
        x = ops.relu(self.norm1(self.conv1(x)))
        return ops.relu(self.norm2(self.conv2(x)))


class Downsampling(nn.Cell):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = Conv2d(inputs, outputs, 3, 2, bias=True)
        self.norm = BatchNorm2d(outputs)

    def construct(self, x):
        return self.norm(self.conv(x))


class ConvMlp(nn.Cell):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1 = Conv2d(channels, hidden, bias=True)
        self.norm1 = BatchNorm2d(hidden)
        self.act = Gelu()
        self.fc2 = Conv2d(hidden, channels, bias=True)
        self.norm2 = ScaledBatchNorm2d(channels)

    def construct(self, x, scale):
        """Times scale."""
        return self.norm2(self.fc2(self.act(self.norm1(self.fc1(x)))), scale)


class PoolBlock(nn.Cell):
    """x + ls1 * (pool - 1)(x), then x + ls2 * mlp(x)."""

    def __init__(self, dim: int, hidden: int, drop: float, side: int):
        super().__init__()
        self.token_mixer = Pooling(dim, side)
        self.ls1 = LayerScale(dim, "gamma")
        self.drop_path1 = DropPath(drop)
        self.mlp = ConvMlp(dim, hidden)
        self.ls2 = LayerScale(dim, "gamma")
        self.drop_path2 = DropPath(drop)
        self.scale = Scale()

    def construct(self, x):
        batch = x.shape[0]
        y = self.scale(self.token_mixer(x), self.ls1.gamma.reshape(1, -1, 1, 1))
        x = x + self.drop_path1(y, batch)
        return x + self.drop_path2(self.mlp(x, self.ls2.gamma), batch)


class BiasedAttention(nn.Cell):
    """Self-attention of all places of a map, with a learned bias for each absolute offset; channels of `qkv` are sorted by
    head, then by q, k, v."""

    def __init__(self, dim: int, heads: int, key_dim: int, value_dim: int, side: int):
        super().__init__()
        self.heads, self.tokens = heads, side * side
        self.key_dim, self.value_dim = key_dim, value_dim
        self.qkv = Linear(dim, heads * (2 * key_dim + value_dim))
        self.proj = Linear(heads * value_dim, dim)
        self.attention_biases = Parameter(Tensor(np.zeros((heads, self.tokens), np.float32)), name="attention_biases")
        self.index = Tensor(offset_index(side))
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.matmul = ops.BatchMatMul()
        self.softmax = RowSoftmax() if on_cpu() else ops.Softmax(-1)

    def construct(self, x):
        """[N * tokens, C] to the same, and the attention [N, heads, queries, keys]."""
        x = self.qkv(x).reshape(-1, self.tokens, self.heads, 2 * self.key_dim + self.value_dim).transpose(0, 2, 1, 3)
        q, k, v = ops.split(x, (self.key_dim, self.key_dim, self.value_dim), 3)
        bias = ops.gather(self.attention_biases, self.index, 1).reshape(self.heads, self.tokens, self.tokens)
        attention = self.softmax(self.scores(q * self.key_dim**-0.5, k) + bias)
        x = self.matmul(attention, v).transpose(0, 2, 1, 3).reshape(-1, self.heads * self.value_dim)
        return self.proj(x), attention


class AttentionBlock(nn.Cell):
    """x + ls1 * attention(norm1(x)), then x + ls2 * mlp(norm2(x)), on tokens."""

    def __init__(self, dim: int, heads: int, key_dim: int, value_dim: int, hidden: int, drop: float, side: int):
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.token_mixer = BiasedAttention(dim, heads, key_dim, value_dim, side)
        self.ls1 = LayerScale(dim, "gamma")
        self.drop_path1 = DropPath(drop)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, hidden, "gelu")
        self.ls2 = LayerScale(dim, "gamma")
        self.drop_path2 = DropPath(drop)

    def construct(self, x, batch: int):
        """[N * tokens, C] to the same, and the attention."""
        y, attention = self.token_mixer(self.norm1(x))
        x = x + self.drop_path1(y * self.ls1.gamma, batch)
        return x + self.drop_path2(self.mlp(self.norm2(x)) * self.ls2.gamma, batch), attention


class Stage(nn.Cell):
    """Downsampling (but in the first stage), then blocks that pool."""

    def __init__(self, inputs: int | None, dim: int, blocks: list[nn.Cell]):
        super().__init__()
        self.reduces = inputs is not None
        if self.reduces:
            self.downsample = Downsampling(inputs, dim)
        self.blocks = nn.CellList(blocks)

    def construct(self, x):
        if self.reduces:
            x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class LastStage(Stage):
    """The first blocks pool; then the map becomes tokens, which is a number in timm's names; then blocks with attention."""

    def __init__(self, inputs: int | None, dim: int, pools: list[nn.Cell], attentions: list[nn.Cell]):
        super().__init__(inputs, dim, [*pools, Identity(), *attentions])
        self.pools = len(pools)

    def construct(self, x):
        """[N, C, H, W] to tokens [N * H * W, C] and the attention of the last block."""
        if self.reduces:
            x = self.downsample(x)
        batch = x.shape[0]
        for i in range(self.pools):
            x = self.blocks[i](x)
        x, seen = to_tokens(x), None
        for i in range(self.pools + 1, len(self.blocks)):
            x, seen = self.blocks[i](x, batch)
        return x, seen


class EfficientFormer(nn.Cell):
    """`construct`: float32 [N, 3, S, S] to logits [N, classes]: the mean of the classifier's and of the one that was
    taught by a teacher. `taps`: also the stages' outputs and the attention map of the last block."""

    def __init__(self, config: EfficientFormerConfig, num_classes: int, image_size: int):
        super().__init__()
        c = config
        rates = iter(drop_rates(c.drop_path, c.mlp))
        sides = [image_size // (4 << i) for i in range(len(c.dim))]
        self.side = sides[-1]
        self.stem = Stem(c.stem, c.dim[0])
        stages = []
        for i, (dim, side) in enumerate(zip(c.dim, sides, strict=True)):
            inputs = c.dim[i - 1] if i else None
            last = i + 1 == len(c.dim)
            pools = len(c.mlp[i]) - (len(c.heads) if last else 0)
            blocks: list[nn.Cell] = [PoolBlock(dim, hidden, next(rates), side) for hidden in c.mlp[i][:pools]]
            if last:
                widths = zip(c.heads, c.key_dim, c.value_dim, c.mlp[i][pools:], strict=True)
                stages.append(LastStage(inputs, dim, blocks, [AttentionBlock(dim, *w, next(rates), side) for w in widths]))
            else:
                stages.append(Stage(inputs, dim, blocks))
        self.stages = nn.CellList(stages)
        self.norm = LayerNorm(c.dim[-1])
        self.head = Linear(c.dim[-1], num_classes)
        self.head_dist = Linear(c.dim[-1], num_classes)

    def taps(self, x):
        batch = x.shape[0]
        x = self.stem(x)
        features = ()
        for i in range(len(self.stages) - 1):  # a slice of a CellList would rename its parameters
            x = self.stages[i](x)
            features += (x,)
        x, seen = self.stages[-1](x)
        features += (to_map(x, self.side),)
        x = self.norm(x)
        x = x.reshape(batch, -1, x.shape[1]).mean(1)
        return (self.head(x) + self.head_dist(x)) * 0.5, features, (received(seen, self.side, self.side),)

    def construct(self, x):
        return self.taps(x)[0]


@register(EfficientFormer, image_size=224, crop_pct=0.95, interpolation="bicubic")
def efficientformer_l1(image_size: int) -> EfficientFormerConfig:
    return EfficientFormerConfig()
