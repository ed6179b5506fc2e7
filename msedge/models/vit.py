"""ViT and DeiT (Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929; Touvron et al., "Training
data-efficient image transformers & distillation through attention", arXiv:2012.12877): one network, two sets of weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from msedge.errors import ModelError  # noqa: E402
from msedge.models.attention import TransformerBlock, to_map, to_tokens  # noqa: E402
from msedge.models.layers import Conv2d, LayerNorm, Linear, drop_rates, truncated_normal  # noqa: E402
from msedge.models.registry import register  # noqa: E402

_EPS = 1e-6  # of all norms


@dataclass(frozen=True)
class ViTConfig:
    """Every width. `heads`, `head_dim` and `mlp` have an entry for each block; their length is the depth."""

    patch: int = 16  # pixels
    dim: int = 192  # of the tokens
    heads: tuple[int, ...] = (3,) * 12
    head_dim: tuple[int, ...] = (64,) * 12
    mlp: tuple[int, ...] = (768,) * 12  # hidden channels
    drop_path: float = 0.1  # rate of the last block; rises linearly from 0

    def check(self, image_size: int) -> None:
        """Raises ModelError for an image that is no whole number of patches and for lists that do not fit together."""
        if image_size % self.patch:
            low = max(self.patch, image_size // self.patch * self.patch)
            raise ModelError(
                f"ViT with patches of {self.patch} cannot take images of {image_size} px",
                f"sizes nearby: {low}, {low + self.patch}",
            )
        for name in ("head_dim", "mlp"):
            if len(getattr(self, name)) != len(self.heads):
                raise ModelError(f"ViT: heads and {name} differ in their numbers of blocks")


class PatchEmbed(nn.Cell):
    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.proj = Conv2d(3, dim, patch, patch, bias=True, padding=0)

    def construct(self, x):
        return to_tokens(self.proj(x))


def received(attention, side: int):
    """How much attention each patch receives, the class token's share left out: maps [N, side, side] of sum 1."""
    each = ops.split(attention.mean((1, 2)), (1, side * side), 1)[1]
    return (each / each.sum(1, keepdims=True)).reshape(-1, side, side)


def tapped_blocks(depth: int) -> tuple[int, ...]:
    """The last block of each quarter of the depth: what stands for the stages of other networks."""
    return tuple(sorted({max(1, round(depth * quarter / 4)) - 1 for quarter in (1, 2, 3, 4)}))


class ViT(nn.Cell):
    """`construct`: float32 [N, 3, S, S] to logits [N, classes], read from the class token.

    `taps`: also patch maps and attention maps after each quarter of the depth. Tokens are rows [N * (1 + patches), C].
    """

    def __init__(self, config: ViTConfig, num_classes: int, image_size: int):
        super().__init__()
        c = config
        self.dim, self.side = c.dim, image_size // c.patch
        self.tokens = self.side * self.side + 1
        self.tapped = tapped_blocks(len(c.heads))
        self.cls_token = Parameter(Tensor(np.zeros((1, 1, c.dim), np.float32)), name="cls_token")
        self.pos_embed = Parameter(Tensor(np.zeros((1, self.tokens, c.dim), np.float32)), name="pos_embed")
        self.patch_embed = PatchEmbed(c.dim, c.patch)
        rates = drop_rates(c.drop_path, (c.heads,))
        widths = zip(c.heads, c.head_dim, c.mlp, rates, strict=True)
        self.blocks = nn.CellList([TransformerBlock(c.dim, *w, "gelu", _EPS) for w in widths])
        self.norm = LayerNorm(c.dim, _EPS)
        self.head = Linear(c.dim, num_classes)

    def reset(self, rng: np.random.Generator) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            parameter.set_data(Tensor(truncated_normal(rng, parameter.shape, 0.02)))

    def embed(self, x):
        """[N, 3, S, S] to rows [N * tokens, C], the class token first in each image."""
        batch = x.shape[0]
        patches = self.patch_embed(x).reshape(batch, -1, self.dim)
        first = ops.broadcast_to(self.cls_token, (batch, 1, self.dim))
        return (ops.concat((first, patches), 1) + self.pos_embed).reshape(-1, self.dim)

    def taps(self, x):
        batch = x.shape[0]
        x = self.embed(x)
        features, attention = (), ()
        for i, block in enumerate(self.blocks):
            x, seen = block(x, self.tokens, batch)
            if i in self.tapped:
                patches = ops.split(x.reshape(batch, -1), (self.dim, (self.tokens - 1) * self.dim), 1)[1]
                features += (to_map(patches.reshape(-1, self.dim), self.side),)
                attention += (received(seen, self.side),)
        first = ops.narrow(x.reshape(batch, -1), 1, 0, self.dim)
        return self.head(self.norm(first)), features, attention

    def construct(self, x):
        return self.taps(x)[0]


_DEIT = {"crop_pct": 0.9, "interpolation": "bicubic"}
_VIT = {**_DEIT, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def _config(dim: int, drop_path: float) -> ViTConfig:
    depth = 12
    return ViTConfig(
        dim=dim,
        heads=(dim // 64,) * depth,
        head_dim=(64,) * depth,
        mlp=(4 * dim,) * depth,
        drop_path=drop_path,
    )


@register(ViT, image_size=224, **_DEIT)
def deit_tiny(image_size: int) -> ViTConfig:
    return _config(192, 0.1)


@register(ViT, image_size=224, **_DEIT)
def deit_small(image_size: int) -> ViTConfig:
    return _config(384, 0.1)


@register(ViT, image_size=224, **_VIT)
def vit_tiny(image_size: int) -> ViTConfig:
    return _config(192, 0.0)


@register(ViT, image_size=224, **_VIT)
def vit_small(image_size: int) -> ViTConfig:
    return _config(384, 0.0)
