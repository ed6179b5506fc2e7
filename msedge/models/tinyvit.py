"""TinyViT (Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", arXiv:2207.10666)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from msedge.errors import ModelError  # noqa: E402
from msedge.models.attention import Attention, from_windows, received, to_map, to_tokens, to_windows  # noqa: E402
from msedge.models.layers import ConvNormAct, DropPath, Gelu, LayerNorm, Linear, Mlp, drop_rates  # noqa: E402
from msedge.models.registry import register  # noqa: E402

REDUCTION = 32  # pixels of the image for one of the last stage


@dataclass(frozen=True)
class TinyViTConfig:
    """Every width. `dim`: the 4 stages; `hidden`: the convolutional blocks of the first; the others: the 3 attention
    stages, in inner tuples their blocks."""

    stem: int = 32  # after the first of the two stem convolutions
    dim: tuple[int, ...] = (64, 128, 160, 320)
    hidden: tuple[int, ...] = (256, 256)  # depthwise channels
    merge: tuple[int, ...] = (128, 160, 320)  # depthwise channels in the downsampling in front of the stage
    heads: tuple[tuple[int, ...], ...] = ((4,) * 2, (5,) * 6, (10,) * 2)
    head_dim: tuple[tuple[int, ...], ...] = ((32,) * 2, (32,) * 6, (32,) * 2)
    mlp: tuple[tuple[int, ...], ...] = ((512,) * 2, (640,) * 6, (1280,) * 2)  # hidden channels
    window: tuple[int, ...] = (7, 14, 7)  # tokens
    drop_path: float = 0.0  # rate of the last block; rises linearly from 0

    def check(self, image_size: int) -> None:
        """Raises ModelError where grids and windows do not fit, naming what would."""
        if image_size % REDUCTION:
            low = max(REDUCTION, image_size // REDUCTION * REDUCTION)
            raise ModelError(f"TinyViT cannot take images of {image_size} px", f"sizes nearby: {low}, {low + REDUCTION}")
        for name, length in {"dim": 4, "merge": 3, "heads": 3, "head_dim": 3, "mlp": 3, "window": 3}.items():
            if len(getattr(self, name)) != length:
                raise ModelError(f"TinyViT: {name} needs {length} entries")
        for name in ("head_dim", "mlp"):
            if [len(v) for v in getattr(self, name)] != [len(v) for v in self.heads]:
                raise ModelError(f"TinyViT: heads and {name} differ in their numbers of blocks")
        for side, window in zip(sides(image_size)[1:], self.window, strict=True):
            if side % window:
                fitting = ", ".join(str(w) for w in range(2, side + 1) if side % w == 0)
                raise ModelError(
                    f"windows of {window} do not divide TinyViT's grid of {side} at {image_size} px",
                    f"windows that do: {fitting}",
                )


def sides(image_size: int) -> list[int]:
    """Places along a side of each stage's grid."""
    return [image_size // (4 << i) for i in range(4)]


def offset_indices(window: int) -> tuple[np.ndarray, np.ndarray]:
    """How a bias table by (|dy|, |dx|) becomes one by (query, key) in two steps that copy little.

    The first, int32 [window^2], takes for (x of the query, x of the key) the column |dx|; the second, int32 [window^3],
    takes for (query, y of the key) the row (|dy|, x of the query) of what the first gave, all x of the key at once.
    """
    places = np.arange(window)
    offset = abs(places[:, None] - places)
    rows = offset[:, None, :] * window + places[:, None]  # [y of the query, x of the query, y of the key]
    return offset.astype(np.int32).reshape(-1), rows.astype(np.int32).reshape(-1)


class ConvBlock(nn.Cell):
    """Inverted residual with an activation after the sum."""

    def __init__(self, dim: int, hidden: int, drop: float):
        super().__init__()
        self.conv1 = ConvNormAct(dim, hidden, act="gelu")
        self.conv2 = ConvNormAct(hidden, hidden, 3, groups=hidden, act="gelu")
        self.conv3 = ConvNormAct(hidden, dim, act="none", bn_weight=0.0)
        self.drop_path = DropPath(drop)
        self.act = Gelu()

    def construct(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return self.act(x + self.drop_path(y, x.shape[0]))


class PatchMerging(nn.Cell):
    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.conv1 = ConvNormAct(inputs, hidden, act="gelu")
        self.conv2 = ConvNormAct(hidden, hidden, 3, 2, groups=hidden, act="gelu")
        self.conv3 = ConvNormAct(hidden, outputs, act="none")

    def construct(self, x):
        return self.conv3(self.conv2(self.conv1(x)))


class BiasedAttention(Attention):
    """Attention inside windows, with a learned bias for each absolute offset. Holds the LayerNorm that the block calls
    before it cuts windows, so that an export can gather heads from whole images."""

    def __init__(self, dim: int, heads: int, head_dim: int, window: int):
        super().__init__(dim, heads, head_dim, by_head=True)
        self.tokens = window * window
        self.norm = LayerNorm(dim)
        self.attention_biases = Parameter(Tensor(np.zeros((heads, self.tokens), np.float32)), name="attention_biases")
        self.window = window
        self.columns, self.rows = (Tensor(i) for i in offset_indices(window))

    def bias(self):
        """[heads, tokens, tokens]."""
        bias = ops.gather(self.attention_biases.reshape(-1, self.window), self.columns, 1)
        bias = ops.gather(bias.reshape(self.heads, self.tokens, self.window), self.rows, 1)
        return bias.reshape(self.heads, self.tokens, self.tokens)

    def construct(self, x):
        return super().construct(x, self.tokens, self.bias())


class AttentionBlock(nn.Cell):
    """Window attention, a depthwise 3x3 convolution, MLP."""

    def __init__(self, dim, heads, head_dim, hidden, drop, side: int, window: int):
        super().__init__()
        self.side, self.window = side, window
        self.attn = BiasedAttention(dim, heads, head_dim, window)
        self.local_conv = ConvNormAct(dim, dim, 3, groups=dim, act="none")
        self.mlp = Mlp(dim, hidden, "gelu", norm=True)
        self.drop_path1 = DropPath(drop)
        self.drop_path2 = DropPath(drop)

    def construct(self, x, batch: int):
        """[N * side * side, C] to the same, and the attention map [N, side, side]."""
        y, attention = self.attn(to_windows(self.attn.norm(x), self.side, self.window))
        x = x + self.drop_path1(from_windows(y, self.side, self.window), batch)
        x = to_tokens(self.local_conv(to_map(x, self.side)))
        x = x + self.drop_path2(self.mlp(x), batch)
        return x, received(attention, self.side, self.window)


class ConvStage(nn.Cell):
    def __init__(self, dim: int, widths: list[tuple]):
        super().__init__()
        self.blocks = nn.CellList([ConvBlock(dim, *w) for w in widths])

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class AttentionStage(nn.Cell):
    def __init__(self, inputs: int, merge: int, dim: int, widths: list[tuple], side: int, window: int):
        super().__init__()
        self.side = side
        self.downsample = PatchMerging(inputs, merge, dim)
        self.blocks = nn.CellList([AttentionBlock(dim, *w, side, window) for w in widths])

    def construct(self, x):
        """[N, C, H, W] to [N, C', H / 2, W / 2] and the attention map of the last block."""
        batch = x.shape[0]
        x = to_tokens(self.downsample(x))
        seen = None
        for block in self.blocks:
            x, seen = block(x, batch)
        return to_map(x, self.side), seen


class PatchEmbed(nn.Cell):
    def __init__(self, stem: int, dim: int):
        super().__init__()
        self.conv1 = ConvNormAct(3, stem, 3, 2, act="gelu")
        self.conv2 = ConvNormAct(stem, dim, 3, 2, act="none")

    def construct(self, x):
        return self.conv2(self.conv1(x))


class Head(nn.Cell):
    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = LayerNorm(channels)
        self.fc = Linear(channels, classes)

    def construct(self, x):
        return self.fc(self.norm(x.mean((2, 3))))


class TinyViT(nn.Cell):
    """`construct`: float32 [N, 3, S, S] to logits [N, classes]. `taps`: also four stage outputs, three attention maps."""

    def __init__(self, config: TinyViTConfig, num_classes: int, image_size: int):
        super().__init__()
        c = config
        rates = iter(drop_rates(c.drop_path, (c.hidden, *c.heads)))
        self.patch_embed = PatchEmbed(c.stem, c.dim[0])
        stages = [ConvStage(c.dim[0], [(h, next(rates)) for h in c.hidden])]
        for i, side in enumerate(sides(image_size)[1:]):
            widths = [(*w, next(rates)) for w in zip(c.heads[i], c.head_dim[i], c.mlp[i], strict=True)]
            stages.append(AttentionStage(c.dim[i], c.merge[i], c.dim[i + 1], widths, side, c.window[i]))
        self.stages = nn.CellList(stages)
        self.head = Head(c.dim[-1], num_classes)

    def taps(self, x):
        x = self.stages[0](self.patch_embed(x))
        features, attention = (x,), ()
        for i in range(1, len(self.stages)):  # a slice of a CellList would rename its parameters
            x, seen = self.stages[i](x)
            features += (x,)
            attention += (seen,)
        return self.head(x), features, attention

    def construct(self, x):
        return self.taps(x)[0]


_PUBLISHED = {"crop_pct": 0.95, "interpolation": "bicubic"}


def _config(image_size: int, dim: tuple[int, ...]) -> TinyViTConfig:
    """Windows grow and shrink with the image: a quarter of the first attention stage's grid, the whole of the others."""
    grids, depths = sides(image_size)[1:], (2, 6, 2)
    return TinyViTConfig(
        stem=dim[0] // 2,
        dim=dim,
        hidden=(4 * dim[0],) * 2,
        merge=dim[1:],
        heads=tuple((d // 32,) * n for d, n in zip(dim[1:], depths, strict=True)),
        head_dim=tuple((32,) * n for n in depths),
        mlp=tuple((4 * d,) * n for d, n in zip(dim[1:], depths, strict=True)),
        window=(max(1, grids[0] // 4), max(1, grids[1]), max(1, grids[2])),
    )


@register(TinyViT, image_size=224, **_PUBLISHED)
def tiny_vit_5m(image_size: int) -> TinyViTConfig:
    return _config(image_size, (64, 128, 160, 320))


@register(TinyViT, image_size=224, **_PUBLISHED)
def tiny_vit_11m(image_size: int) -> TinyViTConfig:
    return _config(image_size, (64, 128, 256, 448))


@register(TinyViT, image_size=224, **_PUBLISHED)
def tiny_vit_21m(image_size: int) -> TinyViTConfig:
    return _config(image_size, (96, 192, 384, 576))
