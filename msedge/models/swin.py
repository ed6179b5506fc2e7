"""Swin Transformer (Liu et al., "Hierarchical Vision Transformer using Shifted Windows", arXiv:2103.14030)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from msedge.errors import ModelError  # noqa: E402
from msedge.models.attention import Attention, from_windows, received, to_map, to_tokens, to_windows  # noqa: E402
from msedge.models.layers import Conv2d, DropPath, LayerNorm, Linear, Mlp, drop_rates, truncated_normal  # noqa: E402
from msedge.models.registry import register  # noqa: E402

_FORBIDDEN = -100.0  # added to the score of a pair that the shift brought together


@dataclass(frozen=True)
class SwinConfig:
    """Every width. `dim` has an entry for each stage; `heads`, `head_dim` and `mlp` one for each block of each stage."""

    patch: int = 4  # pixels
    dim: tuple[int, ...] = (96, 192, 384, 768)
    heads: tuple[tuple[int, ...], ...] = ((3,) * 2, (6,) * 2, (12,) * 6, (24,) * 2)
    head_dim: tuple[tuple[int, ...], ...] = ((32,) * 2, (32,) * 2, (32,) * 6, (32,) * 2)
    mlp: tuple[tuple[int, ...], ...] = ((384,) * 2, (768,) * 2, (1536,) * 6, (3072,) * 2)  # hidden channels
    window: int = 7  # tokens; a stage whose grid is smaller takes its grid as the window
    drop_path: float = 0.1  # rate of the last block; rises linearly from 0

    def sides(self, image_size: int) -> list[int]:
        """Tokens along a side of each stage's grid."""
        return [image_size // (self.patch << i) for i in range(len(self.dim))]

    def check(self, image_size: int) -> None:
        """Raises ModelError where grid and windows do not fit, naming sizes and windows that do."""
        step = self.patch << (len(self.dim) - 1)
        if image_size % step:
            low = max(step, image_size // step * step)
            raise ModelError(f"Swin cannot take images of {image_size} px", f"sizes nearby: {low}, {low + step}")
        if not _fits(self.window, self.sides(image_size)):
            windows = [str(w) for w in range(2, 25) if _fits(w, self.sides(image_size))]
            sizes = [s for s in range(step, 1025, step) if _fits(self.window, self.sides(s))]
            near = sorted(sorted(sizes, key=lambda s: abs(s - image_size))[:3])
            raise ModelError(
                f"windows of {self.window} do not divide Swin's grids at {image_size} px",
                f"windows that do: {', '.join(windows) or 'none'}; sizes nearby that do: {', '.join(map(str, near))}",
            )
        for name in ("heads", "head_dim", "mlp"):
            if [len(v) for v in getattr(self, name)] != [len(v) for v in self.heads] or len(self.heads) != len(self.dim):
                raise ModelError(f"Swin: dim, heads and {name} differ in their numbers of stages or blocks")


def _fits(window: int, sides: list[int]) -> bool:
    return all(side <= window or side % window == 0 for side in sides)


def _window(image_size: int, preferred: int) -> int:
    """The window nearest to the preferred one that divides all grids of a four-stage model with patches of 4 px."""
    sides = [image_size // (4 << i) for i in range(4)]
    fitting = [w for w in range(2, 25) if _fits(w, sides)]
    return min(fitting, key=lambda w: (abs(w - preferred), -w), default=preferred)


def relative_index(window: int) -> np.ndarray:
    """For each (query, key) of a window the row of the bias table: int32 [window^4]."""
    y, x = np.divmod(np.arange(window * window), window)
    dy, dx = y[:, None] - y[None] + window - 1, x[:, None] - x[None] + window - 1
    return (dy * (2 * window - 1) + dx).astype(np.int32).reshape(-1)


def shift_masks(window: int, shift: int) -> np.ndarray:
    """Scores to add so that tokens from opposite borders do not meet: float32 [4, 1, tokens, tokens], for windows inside,
    in the last column, in the last row and in the corner (`window_kinds`)."""
    late = np.arange(window) >= window - shift
    y, x = (v.reshape(-1) for v in np.meshgrid(late, late, indexing="ij"))
    apart_x, apart_y = x[:, None] != x, y[:, None] != y
    masks = np.stack([apart_x & False, apart_x, apart_y, apart_x | apart_y])[:, None]
    return np.where(masks, _FORBIDDEN, 0).astype(np.float32)


def window_kinds(count: int) -> np.ndarray:
    """Which of `shift_masks` each of count x count windows needs: int32 [windows]."""
    last = np.arange(count) == count - 1
    return (2 * last[:, None] + last).astype(np.int32).reshape(-1)


def rolled(x, axis: int, shift: int):
    """torch.roll(x, -shift, axis), in operators that MindSpore has on the CPU."""
    head, tail = ops.split(x, (shift, x.shape[axis] - shift), axis)
    return ops.concat((tail, head), axis)


class WindowAttention(Attention):
    """Attention inside windows with a learned bias for each relative position."""

    def __init__(self, channels: int, heads: int, head_dim: int, side: int, window: int, shift: int):
        super().__init__(channels, heads, head_dim)
        self.tokens = window * window
        table = Tensor(np.zeros(((2 * window - 1) ** 2, heads), np.float32))
        self.relative_position_bias_table = Parameter(table, name="relative_position_bias_table")
        self.index = Tensor(relative_index(window))
        self.shift = shift
        self.masks = Tensor(shift_masks(window, shift)) if shift else None
        self.kinds = Tensor(window_kinds(side // window)) if shift else None

    def reset(self, rng: np.random.Generator) -> None:
        table = self.relative_position_bias_table
        table.set_data(Tensor(truncated_normal(rng, table.shape, 0.02)))

    def bias(self):
        """[windows * heads, tokens, tokens]; one window stands for all where there is no shift."""
        bias = ops.gather(self.relative_position_bias_table, self.index, 0).transpose(1, 0)
        bias = bias.reshape(self.heads, self.tokens, self.tokens)
        if self.shift:
            bias = ops.gather(bias.expand_dims(0) + self.masks, self.kinds, 0).reshape(-1, self.tokens, self.tokens)
        return bias

    def construct(self, x):
        return super().construct(x, self.tokens, self.bias())


class SwinBlock(nn.Cell):
    def __init__(self, dim, heads, head_dim, hidden, drop, side: int, window: int, shift: int):
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.norm1 = LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, head_dim, side, window, shift)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, hidden, "gelu")
        self.drop_path1 = DropPath(drop)
        self.drop_path2 = DropPath(drop)

    def construct(self, x, batch: int):
        """[N * side * side, C] to the same, and the attention map [N, side, side]."""
        y, attention = self.attn(to_windows(self.roll(self.norm1(x), self.shift), self.side, self.window))
        y = self.roll(from_windows(y, self.side, self.window), self.side - self.shift)
        x = x + self.drop_path1(y, batch)
        x = x + self.drop_path2(self.mlp(self.norm2(x)), batch)
        seen = received(attention, self.side, self.window)
        if self.shift:
            seen = rolled(rolled(seen, 1, self.side - self.shift), 2, self.side - self.shift)
        return x, seen

    def roll(self, x, shift: int):
        if self.shift:
            grid = x.reshape(-1, self.side, self.side, x.shape[1])
            x = rolled(rolled(grid, 1, shift), 2, shift).reshape(x.shape)
        return x


class PatchMerging(nn.Cell):
    """Each 2 x 2 tokens (top left, bottom left, top right, bottom right) to one."""

    def __init__(self, inputs: int, outputs: int, side: int):
        super().__init__()
        self.inputs, self.side = inputs, side
        self.norm = LayerNorm(4 * inputs)
        self.reduction = Linear(4 * inputs, outputs, bias=False)

    def construct(self, x):
        x = x.reshape(-1, 2, self.side // 2, 2 * self.inputs).transpose(0, 2, 1, 3)
        x = x.reshape(-1, 2, 2, self.inputs).transpose(0, 2, 1, 3).reshape(-1, 4 * self.inputs)
        return self.reduction(self.norm(x))


class SwinStage(nn.Cell):
    """Merging (but in the first stage), then blocks whose windows are shifted in every second one."""

    def __init__(self, inputs: int | None, dim: int, widths: list[tuple], side: int, window: int):
        super().__init__()
        self.merges = inputs is not None
        if self.merges:
            self.downsample = PatchMerging(inputs, dim, 2 * side)
        shift = window // 2 if side > window else 0
        window = min(window, side)
        self.blocks = nn.CellList([SwinBlock(dim, *w, side, window, shift if i % 2 else 0) for i, w in enumerate(widths)])

    def construct(self, x, batch: int):
        if self.merges:
            x = self.downsample(x)
        seen = None
        for block in self.blocks:
            x, seen = block(x, batch)
        return x, seen


class PatchEmbed(nn.Cell):
    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.proj = Conv2d(3, dim, patch, patch, bias=True, padding=0)
        self.norm = LayerNorm(dim)

    def construct(self, x):
        return self.norm(to_tokens(self.proj(x)))


class Head(nn.Cell):
    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.fc = Linear(channels, classes)

    def construct(self, x):
        return self.fc(x)


class Swin(nn.Cell):
    """`construct`: float32 [N, 3, S, S] to logits [N, classes]. `taps`: also the stages' outputs and attention maps."""

    def __init__(self, config: SwinConfig, num_classes: int, image_size: int):
        super().__init__()
        self.sides = config.sides(image_size)
        rates = iter(drop_rates(config.drop_path, config.heads))
        self.patch_embed = PatchEmbed(config.dim[0], config.patch)
        stages = []
        for i, side in enumerate(self.sides):
            widths = [(*w, next(rates)) for w in zip(config.heads[i], config.head_dim[i], config.mlp[i], strict=True)]
            stages.append(SwinStage(config.dim[i - 1] if i else None, config.dim[i], widths, side, config.window))
        self.layers = nn.CellList(stages)
        self.norm = LayerNorm(config.dim[-1])
        self.head = Head(config.dim[-1], num_classes)

    def taps(self, x):
        batch = x.shape[0]
        x = self.patch_embed(x)
        features, attention = (), ()
        for side, stage in zip(self.sides, self.layers):  # noqa: B905 (graph mode knows no strict)
            x, seen = stage(x, batch)
            features += (to_map(x, side),)
            attention += (seen,)
        x = self.norm(x)
        return self.head(x.reshape(batch, -1, x.shape[1]).mean(1)), features, attention

    def construct(self, x):
        return self.taps(x)[0]


_PUBLISHED = {"crop_pct": 0.9, "interpolation": "bicubic"}


@register(Swin, image_size=224, **_PUBLISHED)
def swin_tiny(image_size: int) -> SwinConfig:
    return SwinConfig(window=_window(image_size, 7))


@register(Swin, image_size=224, **_PUBLISHED)
def swin_micro(image_size: int) -> SwinConfig:
    """A third of Swin-T, for images of 160 to 256 px; no published weights."""
    return _config((64, 128, 256, 384), (2, 2, 6, 2), 32, _window(image_size, 7), drop_path=0.1)


@register(Swin, image_size=128, **_PUBLISHED)
def swin_nano(image_size: int) -> SwinConfig:
    """A teacher for images of 64 to 128 px that trains on a CPU; no published weights."""
    return _config((48, 96, 144, 192), (2, 2, 4, 2), 16, _window(image_size, 4), drop_path=0.0)


def _config(dim: tuple[int, ...], depths: tuple[int, ...], head_dim: int, window: int, drop_path: float) -> SwinConfig:
    return SwinConfig(
        dim=dim,
        heads=tuple((d // head_dim,) * n for d, n in zip(dim, depths, strict=True)),
        head_dim=tuple((head_dim,) * n for n in depths),
        mlp=tuple((4 * d,) * n for d, n in zip(dim, depths, strict=True)),
        window=window,
        drop_path=drop_path,
    )
