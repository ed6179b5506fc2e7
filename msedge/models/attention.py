"""Multi-head attention, and windows on token grids, in tensors of at most four dimensions (what mobile runtimes take)."""

from __future__ import annotations

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.models.cpu_gradients import RowSoftmax, on_cpu  # noqa: E402
from msedge.models.layers import DropPath, LayerNorm, Linear, Mlp  # noqa: E402


class Attention(nn.Cell):
    """Self-attention with parameters `qkv` and `proj`; q, k and v have heads * head_dim channels each.

    Input and output are [sequences * tokens, channels]. `by_head`: the channels of `qkv` are sorted by head, then by q, k,
    v (LeViT, TinyViT), not by q, k, v and then by head.
    """

    def __init__(self, channels: int, heads: int, head_dim: int, by_head: bool = False):
        super().__init__()
        self.heads, self.head_dim, self.width = heads, head_dim, heads * head_dim
        self.by_head = by_head
        self.scale = head_dim**-0.5
        self.qkv = Linear(channels, 3 * self.width)
        self.proj = Linear(self.width, channels)
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.matmul = ops.BatchMatMul()
        self.softmax = RowSoftmax() if on_cpu() else ops.Softmax(-1)

    def construct(self, x, tokens: int, bias=None):
        """Gives the output and the attention [sequences, heads, queries, keys].

        `bias` [groups * heads, queries, keys] is added to the scores; the groups are for successive sequences, in turn.
        """
        x = self.qkv(x)
        if self.by_head:
            x = x.reshape(-1, tokens, self.heads, 3 * self.head_dim).transpose(0, 2, 1, 3)
            q, k, v = ops.split(x, self.head_dim, 3)
        else:
            x = x.reshape(-1, tokens, 3 * self.heads, self.head_dim).transpose(0, 2, 1, 3)
            q, k, v = ops.split(x, self.heads, 1)
        scores = self.scores(q * self.scale, k)
        if bias is not None:
            scores = (scores.reshape(-1, *bias.shape) + bias).reshape(scores.shape)
        attention = self.softmax(scores)
        x = self.matmul(attention, v).transpose(0, 2, 1, 3).reshape(-1, self.width)
        return self.proj(x), attention


class TransformerBlock(nn.Cell):
    """Pre-norm: x + attention(norm1(x)), then x + mlp(norm2(x)), each branch with stochastic depth (ViT, MobileViT)."""

    def __init__(self, dim: int, heads: int, head_dim: int, hidden: int, drop: float, act: str, eps: float = 1e-5):
        super().__init__()
        self.norm1 = LayerNorm(dim, eps)
        self.attn = Attention(dim, heads, head_dim)
        self.norm2 = LayerNorm(dim, eps)
        self.mlp = Mlp(dim, hidden, act)
        self.drop_path1 = DropPath(drop)
        self.drop_path2 = DropPath(drop)

    def construct(self, x, tokens: int, batch: int):
        """[sequences * tokens, C] to the same, and the attention [sequences, heads, tokens, tokens]."""
        y, attention = self.attn(self.norm1(x), tokens)
        x = x + self.drop_path1(y, batch)
        return x + self.drop_path2(self.mlp(self.norm2(x)), batch), attention


def to_windows(x, side: int, window: int):
    """Rows of [N * side * side, C] tokens from raster order to window by window."""
    if window == side:
        return x
    x = x.reshape(-1, window, side // window, window * x.shape[1])
    return x.transpose(0, 2, 1, 3).reshape(-1, x.shape[3] // window)


def from_windows(x, side: int, window: int):
    """The inverse of `to_windows`."""
    if window == side:
        return x
    x = x.reshape(-1, side // window, window, window * x.shape[1])
    return x.transpose(0, 2, 1, 3).reshape(-1, x.shape[3] // window)


def received(attention, side: int, window: int):
    """How much attention each place of a grid receives: attention of all windows to maps [N, side, side] of sum 1."""
    each = attention.mean((1, 2)).reshape(-1, 1)
    return from_windows(each, side, window).reshape(-1, side, side) / ((side // window) ** 2)


def to_tokens(x):
    """[N, C, H, W] to [N * H * W, C]."""
    return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])


def to_map(x, side: int):
    """[N * side * side, C] to [N, C, side, side]."""
    return x.reshape(-1, side, side, x.shape[1]).transpose(0, 3, 1, 2)
