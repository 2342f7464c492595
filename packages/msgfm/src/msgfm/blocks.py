"""Swin blocks whose MLP may be a mixture of experts.

Attention is that of Swin Transformer v1 (Liu et al., ICCV 2021): windows, shifted in every second
block, with a learned bias per relative position. Two rules differ from it:

- a token where nothing is known is never a key, so that missing data and padding influence nothing;
- windows shift wherever a map is larger than half a window, so that what a token sees does not
  depend on how much padding lies beyond the image.

Routing is that of Switch Transformer (Fedus et al., JMLR 2022) with the z-loss of ST-MoE
(Zoph et al., 2022). Shape letters: B batch, h w tokens, N all tokens, D width, E experts,
M tokens of one window, G windows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

BARRED = -1e4
"""Added to the score of a key that may not be seen: its weight becomes exactly 0."""


class Routing(NamedTuple):
    """What the routers of one pass did; scalars, averaged over the layers."""

    balance: Tensor
    """Load-balancing loss, 1 when every expert gets the same share."""

    z: Tensor
    """Mean squared log-partition of the router, which keeps its logits small."""

    dropped: Tensor
    """Share of assignments over capacity; 0 outside training."""

    load: Tensor
    """(E,) share of assignments of each expert."""


class MLP(nn.Module):
    """Two linear maps with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # FFN(x) = W2 gelu(W1 x), as in every Transformer; `MixtureOfExperts` holds E of these
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = self.down(F.gelu(self.up(x)))
        return out


class MixtureOfExperts(nn.Module):
    """E expert MLPs; each token goes to its ``top_k``.

    Tokens are sorted by expert, so that each layer is one grouped matrix product. Capacity limits
    an expert's tokens in training only: at inference nothing is dropped, and no token depends on
    its batch-mates.
    """

    def __init__(
        self, width: int, hidden: int, experts: int, top_k: int, capacity: float | None
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"top_k must be between 1 and experts = {experts}, got {top_k}")
        self.experts, self.top_k, self.capacity = experts, top_k, capacity
        self.router = nn.Linear(width, experts, bias=False)
        # The experts stand in one tensor each, so that all of them are one grouped product.
        self.up = nn.Parameter(torch.empty(experts, width, hidden))
        self.up_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, width))
        self.down_bias = nn.Parameter(torch.zeros(experts, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """Map (..., D) to (..., D) and tell how tokens were routed."""
        tokens = x.reshape(-1, x.shape[-1])
        # Switch, eq. 1: p(x) = softmax(W_r x), a share for each expert. In 32 bits whatever else is
        # rounded ("selective precision", its section 2.4): an error here sends a token elsewhere.
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(tokens.float(), self.router.weight.float())
        gate, expert = logits.softmax(-1).topk(self.top_k, dim=-1)
        # With k > 1 the gates sum to 1: the softmax over the k kept logits of Shazeer et al. (ICLR
        # 2017, eq. 3 to 5). With k = 1 the gate stays p; made 1 it would teach the router nothing.
        if self.top_k > 1:
            gate = gate / gate.sum(-1, keepdim=True)
        # From here on a row is an assignment (token, expert), k of each token, sorted by expert.
        flat = expert.flatten()
        count = F.one_hot(flat, self.experts).sum(0)
        order = self._order(flat, gate.detach().flatten())
        kept = self._within_capacity(flat[order], count)
        # Switch, eq. 2: y = sum over its experts i of p_i(x) E_i(x). What is over capacity adds 0,
        # so that the token passes by the residual path alone.
        out = self._experts(tokens, order, flat[order], count.cumsum(0))
        out = out * (gate.flatten()[order] * kept).to(out.dtype)[:, None]
        mixed = rearrange(out[order.argsort()], "(n k) d -> n k d", k=self.top_k).sum(1)
        return mixed.view_as(x), _routing(logits, count, kept)

    def _order(self, expert: Tensor, gate: Tensor) -> Tensor:
        """Sort assignments by expert; where some may be dropped, the surest come first.

        As in V-MoE (Riquelme et al., NeurIPS 2021): by place, always the last images would lose.
        """
        if self._limited:
            # 0 < gate <= 1, so experts stay apart, and a surer gate comes earlier within one
            return (expert - gate.float() / 2).argsort(stable=True)
        return expert.argsort(stable=True)

    def _experts(self, tokens: Tensor, order: Tensor, expert: Tensor, stops: Tensor) -> Tensor:
        # assignment j belongs to token j // k; `ends` are the rows where the experts' turns end
        rows, ends = _for_products(tokens)[order // self.top_k], stops.to(torch.int32)
        dtype = rows.dtype
        # Biases by a product with one-hot rows: the gradient of an index is slow on a CPU.
        chosen = F.one_hot(expert, self.experts).to(dtype)
        hidden = _grouped(rows, self.up.to(dtype), ends, chosen)
        hidden = F.gelu(hidden.addmm_(chosen, self.up_bias.to(dtype)))
        out = _grouped(hidden, self.down.to(dtype), ends, chosen)
        return out.addmm_(chosen, self.down_bias.to(dtype))

    @property
    def _limited(self) -> bool:
        return self.training and self.capacity is not None

    def _within_capacity(self, expert: Tensor, count: Tensor) -> Tensor:
        if not self._limited or self.capacity is None:
            return torch.ones_like(expert, dtype=torch.bool)
        # Switch, eq. 3: an expert's capacity = assignments / experts * capacity factor. Rows are
        # sorted, so the rank of one within its expert is its distance from the first of them.
        limit = math.ceil(self.capacity * expert.numel() / self.experts)
        first = count.cumsum(0) - count
        return torch.arange(expert.numel(), device=expert.device) - first[expert] < limit


def _for_products(x: Tensor) -> Tensor:
    """Cast as autocast will in the next product: what is moved before it takes half the bytes."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def _grouped(rows: Tensor, matrices: Tensor, ends: Tensor, chosen: Tensor) -> Tensor:
    """Multiply rows (N, D), sorted by expert, with the matrix of theirs, of (E, D, H)."""
    if torch.compiler.is_compiling() and rows.dtype != torch.bfloat16:
        # torch.compile takes the grouped product in bfloat16 only; this costs E times as much
        return torch.einsum("ne,nd,edh->nh", chosen, rows, matrices)
    return F.grouped_mm(rows, matrices, offs=ends)


def _routing(logits: Tensor, count: Tensor, kept: Tensor) -> Routing:
    # The load f_i (Switch, eq. 5) is counted and has no gradient; the importance P_i (eq. 6), the
    # mean share that the router gives, has one. Their product pulls both to 1/E.
    load = count.float() / count.sum()
    importance = logits.softmax(-1).mean(0)
    # balance = E sum_i f_i P_i (Switch, eq. 4, without its weight), 1 when all shares are equal;
    # Shazeer et al. (2017, eq. 6 and 7) asked the same of the importance's variation alone.
    # z = mean of (log sum_i exp logit_i)^2, the router's z-loss of ST-MoE: a softmax does not feel
    # a constant added to all logits, so without it they drift to where rounding is coarse.
    return Routing(
        balance=logits.shape[-1] * (load * importance).sum(),
        z=logits.logsumexp(-1).square().mean(),
        dropped=1 - kept.float().mean(),
        load=load,
    )


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a bias per relative position."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        # The table of Swin v1: one number per head and offset, (2 s - 1)^2 of them for a side of s.
        # Swin v2 (Liu et al., CVPR 2022) computes it from log-spaced offsets, so that windows may
        # grow, and scores by cosines, so that billions of parameters train; neither is needed here.
        self.bias = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))
        self.window = window

    def position_bias(self, side: int) -> Tensor:
        """Return (heads, M, M) for windows of ``side`` tokens."""
        line = torch.arange(side, device=self.bias.device)
        y, x = torch.meshgrid(line, line, indexing="ij")
        place = torch.stack([y.flatten(), x.flatten()])
        # offsets of 1 - s to s - 1 count from 0; a smaller window uses the middle of the table
        apart = place[:, :, None] - place[:, None, :] + self.window - 1
        return self.bias[:, apart[0] * (2 * self.window - 1) + apart[1]]

    def forward(self, x: Tensor, barred: Tensor | None) -> Tensor:
        """Map windows (G, M, D); ``barred`` is that of `Windows`."""
        # Swin, eq. 4: softmax(Q K^T / sqrt(d) + B) V, in each window and each head a
        q, k, v = rearrange(self.qkv(x), "g m (t a d) -> t g a m d", t=3, a=self.heads)
        bias = self.position_bias(math.isqrt(x.shape[1])).to(q.dtype)
        barred = None if barred is None else barred.to(q.dtype)
        if bias.requires_grad and bias.device.type == "cpu":
            out = _attend_in_training(q, k, v, bias, barred)
        else:
            # Four axes: with three, the fused function takes its slow path on a CPU.
            mask = bias[None] if barred is None else _each_image(bias + barred, len(q))
            out = F.scaled_dot_product_attention(q, k, v, mask)
        mixed: Tensor = self.out(rearrange(out, "g a m d -> g m (a d)"))
        return mixed


def _attend_in_training(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, barred: Tensor | None
) -> Tensor:
    """Attend by hand: four times as fast on a CPU as the fused function.

    That one takes its slowest path when the bias needs a gradient. The sums here are in place.
    """
    scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).add_(bias)
    if barred is not None:
        scores = scores.add_(_each_image(barred, len(q)))
    mixed: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return mixed


def _each_image(mask: Tensor, count: int) -> Tensor:
    """Repeat the mask of one image's windows for all ``count`` windows of a batch."""
    return mask.expand(count // len(mask), *mask.shape).flatten(0, 1)


class SwinBlock(nn.Module):
    """Window attention, then an MLP or a mixture of experts, each added to its input."""

    def __init__(
        self, width: int, attention: WindowAttention, mlp: MLP | MixtureOfExperts, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp, self.drop_path = attention, mlp, drop_path

    def forward(self, x: Tensor, grid: Windows) -> tuple[Tensor, Routing | None]:
        """Map (B, h, w, D) to the same shape."""
        # Swin, eq. 3: z' = W-MSA(LN(z)) + z, then z = MLP(LN(z')) + z'. The norm comes first, as in
        # v1; v2 moved it behind the branch to tame the activations of much deeper networks.
        seen = self.attention(grid.split(_for_products(self.norm1(x))), grid.barred)
        x = x + self._drop(grid.join(seen))
        routing = None
        if isinstance(self.mlp, MixtureOfExperts):
            changed, routing = self.mlp(self.norm2(x))
        else:
            changed = self.mlp(self.norm2(x))
        return x + self._drop(changed), routing

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        # Stochastic depth (Huang et al., ECCV 2016): an image skips the branch; dividing by the
        # chance of keeping it leaves the mean as it is at use.
        keep = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) >= self.drop_path
        return branch * keep / (1 - self.drop_path)


class Windows(NamedTuple):
    """How a map (B, h, w) is cut into windows: padded, rolled, and who may see whom."""

    shape_hw: tuple[int, int]
    padded_hw: tuple[int, int]
    side: int
    shift: int
    barred: Tensor | None
    """(G, 1, M, M), added to the scores: `BARRED` where a query may not see a key.

    None when every token sees its whole window; of one image only, when all have the same.
    """

    def split(self, x: Tensor) -> Tensor:
        """Cut (B, h, w, D) into (G, M, D)."""
        # The cyclic shift of Swin (section 3.2, figure 4): rolling the map up and left keeps the
        # number of windows; what comes around from the far side is barred in `windows`.
        below, right = (p - s for p, s in zip(self.padded_hw, self.shape_hw, strict=True))
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        return rearrange(x, "b (i p) (j q) d -> (b i j) (p q) d", p=self.side, q=self.side)

    def join(self, windows: Tensor) -> Tensor:
        """Put (G, M, D) back into (B, h, w, D)."""
        rows, columns = (p // self.side for p in self.padded_hw)
        x = rearrange(windows, "(b i j) (p q) d -> b (i p) (j q) d", i=rows, j=columns, p=self.side)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, : self.shape_hw[0], : self.shape_hw[1]]


def windows(known: Tensor, window: int, *, shifted: bool, complete: bool) -> Windows:
    """Plan the windows of a map.

    ``known`` (B, h, w) tells which tokens may be keys; ``complete`` that all of them may.
    A map that fits in half a window is one window: shifting would change nothing there.
    """
    height, width = int(known.shape[1]), int(known.shape[2])
    half = window // 2
    small = max(height, width) <= half
    side = max(height, width) if small else window
    shift = half if shifted and not small else 0
    padded = (-(-height // side) * side, -(-width // side) * side)
    plan = Windows((height, width), padded, side, shift, None)
    if complete and not shift and padded == (height, width):
        return plan
    if complete:
        known = known[:1]
    # A query may see the keys of its own region that are known, and always itself: were all keys
    # of a row barred alike, the softmax would see them all again. Swin bars regions alone.
    region = _regions(padded, side, shift, known.device)
    keys = plan.split(known[..., None].float())[..., 0] > 0
    same = region[:, :, None] == region[:, None, :]
    itself = torch.eye(side * side, dtype=torch.bool, device=known.device)
    allowed = same.repeat(known.shape[0], 1, 1) & (keys[:, None, :] | itself)
    barred = torch.zeros(allowed.shape, device=known.device).masked_fill_(~allowed, BARRED)
    return plan._replace(barred=barred[:, None])


def _regions(padded: tuple[int, int], side: int, shift: int, device: torch.device) -> Tensor:
    """Return (windows of one image, M): tokens that the roll brought together differ."""
    # Along each axis the rolled map has three strips: whole windows (0), the rest of the last one
    # (1), and what came around (2); Swin numbers the nine regions in the same way.
    y, x = (
        (at >= len(at) - side).long() + (at >= len(at) - shift).long() if shift else at * 0
        for at in (torch.arange(length, device=device) for length in padded)
    )
    return rearrange(y[:, None] * 3 + x[None], "(i p) (j q) -> (i j) (p q)", p=side, q=side)


class Stage(nn.Module):
    """Blocks at one stride; every second one is shifted, and has experts if any are asked for."""

    def __init__(self, width: int, depth: int, heads: int, shape: StageShape) -> None:
        super().__init__()
        self.window = shape.window
        # Experts in blocks 1, 3, 5 ...: dense and mixed layers take turns, as in GShard (Lepikhin
        # et al., ICLR 2021), Swin-MoE and msGFM.
        self.blocks = nn.ModuleList(
            SwinBlock(
                width,
                WindowAttention(width, heads, shape.window),
                shape.mlp(width, expert=i % 2 == 1),
                shape.drop_path,
            )
            for i in range(depth)
        )

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, list[Routing]]:
        """Map (B, h, w, D) to the same shape; ``known`` (B, h, w) are the tokens that inform."""
        # Windows and their masks depend on the map alone: two plans serve all blocks of the stage.
        complete = bool(known.all())
        kinds = (False, True)[: len(self.blocks)]
        plans = [windows(known, self.window, shifted=s, complete=complete) for s in kinds]
        routed = []
        for i, block in enumerate(self.blocks):
            x, routing = block(x, plans[i % 2])
            if routing is not None:
                routed.append(routing)
        return x, routed


class StageShape(NamedTuple):
    """What the blocks of a stage share."""

    window: int
    mlp_ratio: float
    drop_path: float
    experts: int = 1
    top_k: int = 1
    capacity: float | None = 1.25

    def mlp(self, width: int, *, expert: bool) -> MLP | MixtureOfExperts:
        """Return the MLP of a block."""
        hidden = int(width * self.mlp_ratio)
        if expert and self.experts > 1:
            return MixtureOfExperts(width, hidden, self.experts, self.top_k, self.capacity)
        return MLP(width, hidden)
