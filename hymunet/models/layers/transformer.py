"""Transformer layers: attention of all tokens, and of the pixels of a window with or without a shift.

Attention is written as two matrix products and a softmax: fused kernels add its gradients in no fixed order.
"""

import torch
from torch import Tensor, nn

from hymunet.models.layers.stochastic import Dropout, DropPath
from hymunet.models.protocols import SparesDecay


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d + bias) v. (…, tokens, d) each -> same shape."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return torch.softmax(scores if bias is None else scores + bias, dim=-1) @ v


class Perceptron(nn.Sequential):
    """Two linear maps with a GELU between them."""

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(channels, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, channels), Dropout(dropout)
        )


class TransformerBlock(nn.Module):
    """Pre-norm attention over all tokens and a perceptron (Vaswani et al. 2017). (B, tokens, C) -> same shape."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.perceptron_norm = nn.LayerNorm(channels, eps=1e-6)
        self.perceptron = Perceptron(channels, hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        qkv = self.qkv(self.attention_norm(x)).reshape(batch, tokens, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        heard = attend(q, k, v).transpose(1, 2).reshape(batch, tokens, channels)
        x = x + self.out(heard)
        return x + self.perceptron(self.perceptron_norm(x))


class WindowAttention(SparesDecay, nn.Module):
    """Attention within windows with a learnt bias for each offset of two pixels (Liu et al. 2021).

    (windows, window², C) -> same shape. mask: (windows of one image, window², window²), 0 or -inf, or none.
    """

    undecayed = ("offsets",)
    index: Tensor

    def __init__(self, channels: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.offsets = nn.Parameter(nn.init.normal_(torch.empty(heads, (2 * window - 1) ** 2), std=0.02))
        rows, columns = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij"))
        apart = [axis[:, None] - axis + window - 1 for axis in (rows, columns)]
        self.register_buffer("index", apart[0] * (2 * window - 1) + apart[1], persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, pixels, channels = x.shape
        qkv = self.qkv(x).reshape(windows, pixels, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self._bias()
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(windows // len(mask), 1, 1, 1)
        return self.out(attend(q, k, v, bias.to(q.dtype)).transpose(1, 2).reshape(windows, pixels, channels))

    def _bias(self) -> Tensor:
        """(heads, window², window²), by a product with 0 and 1: the gradient of an index is added in no fixed order."""
        chosen = nn.functional.one_hot(self.index.flatten(), self.offsets.shape[1]).to(self.offsets)
        return (self.offsets @ chosen.T).view(self.heads, *self.index.shape)


class SwinBlock(nn.Module):
    """Window attention and a perceptron over a map of one size. (B, C, size, size) -> same shape.

    window: a side, which divides `size`. shift: pixels by which the windows are moved, around the border; pixels that
    only meet by that do not hear each other.
    """

    mask: Tensor | None

    def __init__(self, channels: int, size: int, window: int, heads: int, shift: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.size, self.window, self.shift = size, window, shift
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, window, heads)
        self.drop_path = DropPath(drop_path)
        self.perceptron_norm = nn.LayerNorm(channels)
        self.perceptron = Perceptron(channels, 4 * channels)
        self.register_buffer("mask", self._mask() if shift else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        normed = self.attention_norm(x)
        if self.shift:
            normed = normed.roll((-self.shift, -self.shift), (1, 2))
        heard = self._joined(self.attention(self._windows(normed), self.mask))
        if self.shift:
            heard = heard.roll((self.shift, self.shift), (1, 2))
        x = x + self.drop_path(heard)
        return (x + self.drop_path(self.perceptron(self.perceptron_norm(x)))).permute(0, 3, 1, 2)

    def _windows(self, x: Tensor) -> Tensor:
        """(B, size, size, C) -> (B · windows, window², C)."""
        count, window, channels = self.size // self.window, self.window, x.shape[-1]
        cut = x.reshape(-1, count, window, count, window, channels).transpose(2, 3)
        return cut.reshape(-1, window * window, channels)

    def _joined(self, windows: Tensor) -> Tensor:
        count, window, channels = self.size // self.window, self.window, windows.shape[-1]
        cut = windows.reshape(-1, count, count, window, window, channels).transpose(2, 3)
        return cut.reshape(-1, self.size, self.size, channels)

    def _mask(self) -> Tensor:
        """-inf between pixels of a shifted window that were not neighbours before."""
        edge = torch.arange(self.size)
        part = (edge >= self.size - self.window).long() + (edge >= self.size - self.shift).long()
        region = self._windows((3 * part[:, None] + part)[None, :, :, None].float())[..., 0]
        apart = region[:, :, None] != region[:, None]
        return torch.zeros(apart.shape).masked_fill(apart, float("-inf"))
