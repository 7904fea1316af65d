"""The visual state space block (equation 6): a residual around a gated selective scan over four directions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from hymunet.models.layers.stochastic import DropPath
from hymunet.models.protocols import Scans, SparesDecay
from hymunet.ops import ss2d

DIRECTIONS = 4
STEP_RANGE = (1e-3, 1e-1)  # softplus(dt_bias) at the start, log-uniform, as in Mamba


class SS2D(Scans, SparesDecay, nn.Module):
    """The 2-D selective scan: each pixel hears from all others along four scan orders, which are summed.

    Step size, input and output projections depend on the pixel; one linear map makes them for all directions.
    directions: 4, or for ablation 2 (along the rows and back) or 1 (along the rows).
    (B, H, W, channels) -> same shape. `backend` picks the scan's implementation (hymunet.ops).
    """

    undecayed = ("A_log", "D", "dt_bias")

    def __init__(self, channels: int, rank: int, states: int = 16, directions: int = DIRECTIONS) -> None:
        super().__init__()
        self.rank, self.states, self.directions, self.backend = rank, states, directions, "auto"
        self.projection = nn.Linear(channels, directions * (rank + 2 * states), bias=False)
        self.dt_weight = nn.Parameter(torch.empty(directions, channels, rank).uniform_(-(rank**-0.5), rank**-0.5))
        low, high = (math.log(bound) for bound in STEP_RANGE)
        step = torch.exp(torch.empty(directions, channels).uniform_(low, high))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # inverse of softplus
        decay = torch.arange(1, states + 1, dtype=torch.float32).log()
        self.A_log = nn.Parameter(decay.expand(directions, channels, states).clone())
        self.D = nn.Parameter(torch.ones(directions, channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        projected = self.projection(x).view(batch, height, width, self.directions, self.rank + 2 * self.states)
        A: Tensor = -torch.exp(self.A_log)
        dt_weight: Tensor = self.dt_weight
        dt_bias: Tensor = self.dt_bias
        D: Tensor = self.D
        if missing := DIRECTIONS - self.directions:  # the kernels walk all four; these hear nothing and say nothing
            projected = functional.pad(projected, (0, 0, 0, missing))
            A = functional.pad(A, (0, 0, 0, 0, 0, missing), value=-1.0)
            dt_weight = functional.pad(dt_weight, (0, 0, 0, 0, 0, missing))
            dt_bias, D = (functional.pad(part, (0, 0, 0, missing)) for part in (dt_bias, D))
        return ss2d(x, projected, A, dt_weight, dt_bias, D, backend=self.backend)


class VisualStateSpaceBlock(nn.Module):
    """VSS, equation 6: x + DropPath(Linear(LN(SS2D(SiLU(DWConv3×3(Linear(LN x))))) ⊙ SiLU(Linear(LN x)))).

    (B, C, H, W) -> (B, C, H, W). In channels-last memory the block works on NHWC views and copies nothing.
    """

    def __init__(
        self, channels: int, expand: int = 2, states: int = 16, drop_path: float = 0.0, directions: int = DIRECTIONS
    ) -> None:
        super().__init__()
        inner = expand * channels
        self.norm = nn.LayerNorm(channels)
        self.content = nn.Linear(channels, inner, bias=False)
        self.gate = nn.Linear(channels, inner, bias=False)
        self.local = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scan = SS2D(inner, math.ceil(channels / 16), states, directions)
        self.scan_norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, channels, bias=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x.permute(0, 2, 3, 1))
        content = self.local(self.content(normed).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        scanned = self.scan_norm(self.scan(functional.silu(content)))
        branch = self.out(scanned * functional.silu(self.gate(normed)))
        return x + self.drop_path(branch).permute(0, 3, 1, 2)
