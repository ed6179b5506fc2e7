"""MobileViT (Mehta and Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer",
arXiv:2110.02178): inverted residuals, and blocks that see the whole image by attention between like pixels of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.errors import ModelError  # noqa: E402
from msedge.models.attention import TransformerBlock  # noqa: E402
from msedge.models.layers import Conv2d, ConvNormAct, LayerNorm, Linear, drop_rates  # noqa: E402
from msedge.models.registry import register  # noqa: E402

PATCH = 2  # pixels, height and width of the patches that attention sees
REDUCTION = 32  # pixels of the image for one of the last stage


@dataclass(frozen=True)
class MobileViTConfig:
    """Every width. Outer tuples are stages (`hidden`, `out`: 5; the others: the 3 stages with transformers), inner ones
    the blocks or transformer layers of the stage."""

    stem: int = 16
    hidden: tuple[tuple[int, ...], ...] = ((32,), (32, 48, 48), (48,), (96,), (128,))  # depthwise channels
    out: tuple[int, ...] = (16, 24, 48, 64, 80)  # channels that leave the stage
    local: tuple[int, ...] = (48, 64, 80)  # between the 3x3 and the 1x1 convolution in front of the transformer
    dim: tuple[int, ...] = (64, 80, 96)  # of the tokens
    heads: tuple[tuple[int, ...], ...] = ((4,) * 2, (4,) * 4, (4,) * 3)
    head_dim: tuple[tuple[int, ...], ...] = ((16,) * 2, (20,) * 4, (24,) * 3)
    mlp: tuple[tuple[int, ...], ...] = ((128,) * 2, (160,) * 4, (192,) * 3)  # hidden channels
    proj: tuple[int, ...] = (48, 64, 80)  # from the transformer into the fusion
    final: int = 320  # channels that are pooled
    drop_path: float = 0.0  # rate of the last transformer layer; rises linearly from 0

    def check(self, image_size: int) -> None:
        """Raises ModelError for an image size that the network cannot take and for lists that do not fit together."""
        if image_size < 2 * REDUCTION or image_size % (PATCH * REDUCTION):
            step = PATCH * REDUCTION
            low = max(step, image_size // step * step)
            raise ModelError(f"MobileViT cannot take images of {image_size} px", f"sizes nearby: {low}, {low + step}")
        if len(self.hidden) != 5 or len(self.out) != 5:
            raise ModelError("MobileViT has 5 stages: hidden and out need 5 entries each")
        for name in ("local", "dim", "heads", "head_dim", "mlp", "proj"):
            if len(getattr(self, name)) != 3:
                raise ModelError(f"MobileViT has 3 stages with transformers: {name} needs 3 entries")
        for name in ("head_dim", "mlp"):
            if [len(v) for v in getattr(self, name)] != [len(v) for v in self.heads]:
                raise ModelError(f"MobileViT: heads and {name} differ in their numbers of transformer layers")


class InvertedResidual(nn.Cell):
    """Expand (1x1), filter (depthwise 3x3), project (1x1); with a shortcut where the shape stays."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int):
        super().__init__()
        self.shortcut = inputs == outputs and stride == 1
        self.conv1_1x1 = ConvNormAct(inputs, hidden)
        self.conv2_kxk = ConvNormAct(hidden, hidden, 3, stride, groups=hidden)
        self.conv3_1x1 = ConvNormAct(hidden, outputs, act="none")

    def construct(self, x):
        y = self.conv3_1x1(self.conv2_kxk(self.conv1_1x1(x)))
        return y + x if self.shortcut else y


def unfold(x):
    """[N, C, H, W] to rows [N * 4 * tokens, C]: for each place in a 2 x 2 patch the sequence of its pixels."""
    batch, channels, height, width = x.shape
    rows, columns = height // PATCH, width // PATCH
    x = x.reshape(batch * channels * rows, PATCH, columns, PATCH).transpose(0, 2, 1, 3)
    return x.reshape(batch, channels, rows * columns, PATCH * PATCH).transpose(0, 3, 2, 1).reshape(-1, channels)


def fold(x, height: int, width: int):
    """The inverse of `unfold`."""
    channels, rows, columns = x.shape[1], height // PATCH, width // PATCH
    x = x.reshape(-1, PATCH * PATCH, rows * columns, channels).transpose(0, 3, 2, 1)
    x = x.reshape(-1, columns, PATCH, PATCH).transpose(0, 2, 1, 3)
    return x.reshape(-1, channels, height, width)


class MobileViTBlock(nn.Cell):
    """Local features, global ones by a transformer over the pixels with the same place in their patch, fusion."""

    def __init__(self, channels, local, dim, heads, head_dim, mlp, proj, drops):
        super().__init__()
        self.conv_kxk = ConvNormAct(channels, local, 3)
        self.conv_1x1 = Conv2d(local, dim)
        self.transformer = nn.CellList(
            [TransformerBlock(dim, *widths, "silu") for widths in zip(heads, head_dim, mlp, drops, strict=True)]
        )
        self.norm = LayerNorm(dim)
        self.conv_proj = ConvNormAct(dim, proj)
        self.conv_fusion = ConvNormAct(channels + proj, channels, 3)

    def construct(self, x):
        """[N, C, H, W] to the same shape and the attention map [N, H, W] of the last layer."""
        batch, _, height, width = x.shape
        tokens = height * width // (PATCH * PATCH)
        y = unfold(self.conv_1x1(self.conv_kxk(x)))
        attention = None
        for layer in self.transformer:
            y, attention = layer(y, tokens, batch)
        y = self.conv_proj(fold(self.norm(y), height, width))
        y = self.conv_fusion(ops.concat((x, y), 1))
        return y, received(attention, height, width)


def received(attention, height: int, width: int):
    """How much attention each pixel receives: [N * 4, heads, queries, keys] to maps [N, H, W] of sum 1."""
    each = attention.mean((1, 2)).reshape(-1, 1)
    return fold(each, height, width).reshape(-1, height, width) / (PATCH * PATCH)


class Head(nn.Cell):
    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.fc = Linear(channels, classes, std=0.01)

    def construct(self, x):
        return self.fc(x.mean((2, 3)))


class MobileViT(nn.Cell):
    """`construct`: float32 [N, 3, S, S] to logits [N, classes]. `taps`: also five stage outputs, three attention maps."""

    def __init__(self, config: MobileViTConfig, num_classes: int, image_size: int):
        config.check(image_size)
        super().__init__()
        rates = iter(drop_rates(config.drop_path, config.heads))
        self.stem = ConvNormAct(3, config.stem, 3, 2)
        channels = config.stem
        stages = []
        for i, (hidden, out) in enumerate(zip(config.hidden, config.out, strict=True)):
            blocks = []
            for j, width in enumerate(hidden):
                blocks.append(InvertedResidual(channels, width, out, 2 if i > 0 and j == 0 else 1))
                channels = out
            if (t := i - 2) >= 0:
                widths = [getattr(config, n)[t] for n in ("local", "dim", "heads", "head_dim", "mlp", "proj")]
                blocks.append(MobileViTBlock(out, *widths, [next(rates) for _ in config.heads[t]]))
            stages.append(nn.CellList(blocks))
        self.stages = nn.CellList(stages)
        self.final_conv = ConvNormAct(channels, config.final)
        self.head = Head(config.final, num_classes)

    def taps(self, x):
        x = self.stem(x)
        features, attention = (), ()
        for stage in self.stages:
            for block in stage:
                if isinstance(block, MobileViTBlock):
                    x, received = block(x)
                    attention += (received,)
                else:
                    x = block(x)
            features += (x,)
        return self.head(self.final_conv(x)), features, attention

    def construct(self, x):
        return self.taps(x)[0]


_PUBLISHED = {"crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def _config(ratio: int, first: int, out: tuple, dim: tuple, final: int) -> MobileViTConfig:
    """`ratio`: of the inverted residuals; `first`: channels of the first stage; `out`: of the other four."""
    return MobileViTConfig(
        hidden=(
            (16 * ratio,),
            (first * ratio, out[0] * ratio, out[0] * ratio),
            *((channels * ratio,) for channels in out[:3]),
        ),
        out=(first, *out),
        local=out[1:],
        dim=dim,
        heads=tuple((4,) * depth for depth in (2, 4, 3)),
        head_dim=tuple((d // 4,) * depth for d, depth in zip(dim, (2, 4, 3), strict=True)),
        mlp=tuple((2 * d,) * depth for d, depth in zip(dim, (2, 4, 3), strict=True)),
        proj=out[1:],
        final=final,
    )


@register(MobileViT, image_size=256, **_PUBLISHED)
def mobilevit_xxs(image_size: int) -> MobileViTConfig:
    return _config(2, 16, (24, 48, 64, 80), (64, 80, 96), 320)


@register(MobileViT, image_size=256, **_PUBLISHED)
def mobilevit_xs(image_size: int) -> MobileViTConfig:
    return _config(4, 32, (48, 64, 80, 96), (96, 120, 144), 384)


@register(MobileViT, image_size=256, **_PUBLISHED)
def mobilevit_s(image_size: int) -> MobileViTConfig:
    return _config(4, 32, (64, 96, 128, 160), (144, 192, 240), 640)
