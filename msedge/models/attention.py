"""Multi-head attention over short sequences, in 4-D tensors only (what mobile runtimes take)."""

from __future__ import annotations

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.models.layers import Linear  # noqa: E402


class Attention(nn.Cell):
    """Self-attention with parameters `qkv` and `proj`; q, k and v have heads * head_dim channels each.

    Input and output are [sequences * tokens, channels].
    """

    def __init__(self, channels: int, heads: int, head_dim: int):
        super().__init__()
        self.heads, self.head_dim, self.width = heads, head_dim, heads * head_dim
        self.scale = head_dim**-0.5
        self.qkv = Linear(channels, 3 * self.width)
        self.proj = Linear(self.width, channels)
        self.matmul = ops.BatchMatMul()

    def construct(self, x, tokens: int):
        """Gives the output and the attention [sequences, heads, queries, keys]."""
        q, k, v = ops.split(self.qkv(x), self.width, 1)
        shape = (-1, tokens, self.heads, self.head_dim)
        q = (q * self.scale).reshape(shape).transpose(0, 2, 1, 3)
        k = k.reshape(shape).transpose(0, 2, 3, 1)
        v = v.reshape(shape).transpose(0, 2, 1, 3)
        attention = ops.softmax(self.matmul(q, k), -1)
        x = self.matmul(attention, v).transpose(0, 2, 1, 3).reshape(-1, self.width)
        return self.proj(x), attention
