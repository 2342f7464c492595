"""Attention and experts against twins that are slow and plain."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from msgfm import nano
from msgfm.blocks import (
    BARRED,
    MLP,
    MixtureOfExperts,
    Stage,
    StageShape,
    SwinBlock,
    WindowAttention,
    windows,
)

SEEDS = st.integers(0, 2**16)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def mixture(experts=4, top_k=1, capacity=1.25, seed=0, width=8):
    made = MixtureOfExperts(width, 4 * width, experts, top_k, capacity)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=seeded(seed + parameter.numel()))
    return made


def slow_mixture(moe, x):
    """Loop over tokens and experts; returns the output and the expert of each choice."""
    tokens, out, chosen = x.reshape(-1, x.shape[-1]), [], []
    for token in tokens:
        share = (moe.router.weight @ token).softmax(0)
        gate, expert = share.topk(moe.top_k)
        if moe.top_k > 1:
            gate = gate / gate.sum()
        mixed = torch.zeros_like(token)
        for g, e in zip(gate, expert.tolist(), strict=True):
            hidden = F.gelu(token @ moe.up[e] + moe.up_bias[e])
            mixed = mixed + g * (hidden @ moe.down[e] + moe.down_bias[e])
        out.append(mixed)
        chosen.append(expert.tolist())
    return torch.stack(out).view_as(x), chosen


@settings(max_examples=20)
@given(seed=SEEDS, experts=st.integers(2, 5), top_k=st.integers(1, 2))
def test_a_mixture_equals_its_slow_twin(seed, experts, top_k):
    moe = mixture(experts, top_k, seed=seed).eval()
    x = torch.randn(2, 3, 4, 8, generator=seeded(seed))
    out, routing = moe(x)
    slow, chosen = slow_mixture(moe, x)
    torch.testing.assert_close(out, slow, rtol=1e-4, atol=1e-4)
    counts = torch.bincount(torch.tensor(chosen).flatten(), minlength=experts)
    torch.testing.assert_close(routing.load, counts / counts.sum())
    assert routing.dropped == 0


@settings(max_examples=20)
@given(seed=SEEDS, top_k=st.integers(1, 2), capacity=st.floats(0.2, 2.0))
def test_training_drops_what_is_over_capacity_and_nothing_else(seed, top_k, capacity):
    experts = 3
    moe = mixture(experts, top_k, capacity, seed=seed).train()
    x = torch.randn(30, 8, generator=seeded(seed))
    limit = math.ceil(capacity * 30 * top_k / experts)
    share = (x @ moe.router.weight.T).softmax(-1)
    gate, expert = share.topk(top_k)
    gate = gate / gate.sum(-1, keepdim=True) if top_k > 1 else gate
    wanted, dropped = torch.zeros_like(x), 0
    for e in range(experts):
        asked = [(g, i) for i, k in (expert == e).nonzero().tolist() for g in [gate[i, k]]]
        asked.sort(key=lambda one: -one[0].item())
        dropped += len(asked[limit:])
        for g, i in asked[:limit]:
            hidden = F.gelu(x[i] @ moe.up[e] + moe.up_bias[e])
            wanted[i] += g * (hidden @ moe.down[e] + moe.down_bias[e])
    out, routing = moe(x)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(routing.dropped.item(), dropped / (30 * top_k), atol=1e-6, rtol=0)


@settings(max_examples=20)
@given(seed=SEEDS, capacity=st.floats(0.2, 1.0))
def test_which_tokens_are_dropped_does_not_depend_on_their_order(seed, capacity):
    moe = mixture(3, 1, capacity, seed=seed).train()
    x = torch.randn(30, 8, generator=seeded(seed))
    order = torch.randperm(30, generator=seeded(seed))
    torch.testing.assert_close(moe(x[order])[0], moe(x)[0][order], rtol=1e-4, atol=1e-4)


def test_without_a_capacity_training_drops_nothing():
    moe = mixture(capacity=None).train()
    torch.nn.init.zeros_(moe.router.weight)  # everything to the first expert
    assert moe(torch.randn(12, 8, generator=seeded(0)))[1].dropped == 0


def test_balance_is_one_for_an_even_load_and_grows_to_the_number_of_experts():
    moe = mixture(experts=4, width=4).eval()
    even = torch.eye(4).repeat(5, 1)
    moe.router.weight.data = torch.eye(4) * 3
    assert moe(even)[1].balance.item() == pytest.approx(1, abs=1e-5)
    moe.router.weight.data = torch.eye(4) * 50
    collapsed = torch.eye(4)[:1].repeat(20, 1)
    routing = moe(collapsed)[1]
    assert routing.balance.item() == pytest.approx(4, abs=1e-3)
    assert routing.load.tolist() == [1, 0, 0, 0]


def test_the_z_loss_is_the_squared_log_partition():
    moe = mixture(experts=4).eval()
    torch.nn.init.zeros_(moe.router.weight)
    routing = moe(torch.randn(6, 8, generator=seeded(0)))[1]
    assert routing.z.item() == pytest.approx(math.log(4) ** 2, rel=1e-5)


@pytest.mark.parametrize("top_k", [1, 2])
def test_gradients_reach_the_router_and_every_used_expert_alone(top_k):
    moe = mixture(experts=4, top_k=top_k).train()
    moe.capacity = None
    moe.router.weight.data[3] = 0
    moe.router.weight.data[3, 0] = -1e3
    x = torch.randn(40, 8, generator=seeded(1))
    x[:, 0] = 1  # so that the last expert is never chosen
    out, routing = moe(x)
    out.square().sum().backward()
    used = routing.load > 0
    assert used.tolist() == [True, True, True, False]
    for name in ("up", "up_bias", "down", "down_bias"):
        reached = getattr(moe, name).grad.flatten(1).abs().sum(1) > 0
        assert reached.tolist() == used.tolist(), name
    assert moe.router.weight.grad.abs().sum() > 0


def test_the_auxiliary_losses_train_the_router():
    for part in ("balance", "z"):
        moe = mixture(experts=4).train()
        getattr(moe(torch.randn(40, 8, generator=seeded(1)))[1], part).backward()
        assert moe.router.weight.grad.abs().sum() > 0, part


def test_gradients_of_a_mixture_equal_those_of_its_slow_twin():
    x = torch.randn(12, 8, generator=seeded(1))
    grads = []
    for run in (lambda m: m(x)[0], lambda m: slow_mixture(m, x)[0]):
        moe = mixture(experts=3, top_k=2).eval()
        run(moe).square().mean().backward()
        grads.append([p.grad for p in moe.parameters()])
    for fast, slow in zip(*grads, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)


def test_bfloat16_agrees_with_float32_to_two_digits():
    moe = mixture(experts=3).eval()
    for parameter in (moe.up, moe.down):
        parameter.data *= 0.3
    x = torch.randn(64, 8, generator=seeded(1))
    exact, routing = moe(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough, other = moe(x)
    assert (rough.float() - exact).abs().max() < 0.02 * exact.abs().max()
    torch.testing.assert_close(routing.load, other.load)  # the router stays in 32 bits
    torch.testing.assert_close(routing.balance, other.balance)


@pytest.mark.parametrize("top_k", [0, 3])
def test_impossible_top_k_is_refused(top_k):
    with pytest.raises(ValueError, match="top_k"):
        MixtureOfExperts(8, 16, 2, top_k, 1.0)


# Attention


def attention(window, heads=2, width=8, seed=0):
    made = WindowAttention(width, heads, window)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=seeded(seed + parameter.numel()))
    return made


def slow_attention(made, x, known, window, shifted):
    """Each token looks at each other; who sees whom is told in coordinates of the map."""
    batch, height, width, depth = x.shape
    half = window // 2
    whole = max(height, width) <= half
    shift = half if shifted and not whole else 0
    side = 2 * window * max(height, width) if whole else window
    place = [(i, j) for i in range(height) for j in range(width)]
    head = depth // made.heads
    qkv = made.qkv(x).reshape(batch, height * width, 3, made.heads, head)
    out = torch.zeros(batch, height * width, depth)
    for b in range(batch):
        for n, (i, j) in enumerate(place):
            seen = [
                m
                for m, (y, z) in enumerate(place)
                if ((i + side - shift) // side, (j + side - shift) // side)
                == ((y + side - shift) // side, (z + side - shift) // side)
                and (known[b, y, z] or m == n)
            ]
            at = [
                (i - place[m][0] + window - 1) * (2 * window - 1) + j - place[m][1] + window - 1
                for m in seen
            ]
            for a in range(made.heads):
                q, k, v = qkv[b, n, 0, a], qkv[b, seen, 1, a], qkv[b, seen, 2, a]
                weight = (k @ q / head**0.5 + made.bias[a, at]).softmax(0)
                out[b, n, a * head : (a + 1) * head] = weight @ v
    return made.out(out).view_as(x)


@settings(max_examples=15)
@given(
    seed=SEEDS,
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    window=st.sampled_from([2, 4]),
    shifted=st.booleans(),
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_window_attention_equals_its_slow_twin(seed, height, width, window, shifted, share):
    x = torch.randn(2, height, width, 8, generator=seeded(seed))
    known = torch.rand(2, height, width, generator=seeded(seed)) >= share
    made = attention(window, seed=seed)
    plan = windows(known, window, shifted=shifted, complete=bool(known.all()))
    with torch.no_grad():
        fast = plan.join(made(plan.split(x), plan.barred))
        slow = slow_attention(made, x, known, window, shifted)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    window=st.sampled_from([2, 4, 8]),
    shifted=st.booleans(),
)
def test_joining_what_was_split_is_the_identity(height, width, window, shifted):
    x = torch.arange(2 * height * width * 3.0).view(2, height, width, 3)
    known = torch.ones(2, height, width, dtype=torch.bool)
    plan = windows(known, window, shifted=shifted, complete=True)
    cut = plan.split(x)
    assert cut.shape[1:] == (plan.side**2, 3)
    assert torch.equal(plan.join(cut), x)


def test_a_complete_map_of_whole_windows_needs_no_bar():
    known = torch.ones(1, 8, 8, dtype=torch.bool)
    assert windows(known, 4, shifted=False, complete=True).barred is None
    assert windows(known, 4, shifted=True, complete=True).barred is not None


def test_a_barred_key_weighs_exactly_nothing_in_16_bits_too():
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert torch.tensor([30.0, -30.0 + BARRED], dtype=dtype).softmax(0)[1] == 0


def test_attention_in_bfloat16_agrees_with_float32():
    made = attention(4)
    x = torch.randn(3, 16, 8, generator=seeded(0))
    with torch.no_grad():
        exact = made(x, None)
        with torch.autocast("cpu", torch.bfloat16):
            rough = made(x, None)
    assert (rough.float() - exact).abs().max() < 0.03 * exact.abs().max()


def test_attention_by_hand_is_for_training_on_a_cpu_alone(monkeypatch):
    def slow(*given):
        raise AssertionError("by hand")

    monkeypatch.setattr("msgfm.blocks._attend_in_training", slow)
    elsewhere = attention(4).to("meta")
    assert elsewhere(torch.empty(2, 16, 8, device="meta"), None).shape == (2, 16, 8)
    here = attention(4)
    with torch.no_grad():
        here(torch.zeros(2, 16, 8), None)
    with pytest.raises(AssertionError, match="by hand"):
        here(torch.zeros(2, 16, 8), None)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of heads"):
        WindowAttention(8, 3, 4)


# Blocks and stages


def block(drop_path):
    return SwinBlock(8, attention(4), MLP(8, 16), drop_path)


def test_drop_path_is_off_in_inference_and_keeps_the_mean_in_training():
    x = torch.randn(1, 4, 4, 8, generator=seeded(0)).expand(600, 4, 4, 8)
    plan = windows(torch.ones(600, 4, 4, dtype=torch.bool), 4, shifted=False, complete=True)
    one = block(0.25)
    with torch.no_grad():
        exact = one.eval()(x, plan)[0]
        torch.testing.assert_close(block(0.0).train()._drop(x), x)
        torch.manual_seed(0)
        kept = one.train()._drop(torch.ones(600, 1, 1, 1)).flatten()
    assert sorted(set(kept.tolist())) == [0, pytest.approx(1 / 0.75)]
    assert kept.mean().item() == pytest.approx(1, abs=0.08)
    torch.testing.assert_close(exact[:1], exact[-1:])


def test_drop_path_drops_whole_places():
    one = block(0.5).train()
    torch.manual_seed(0)
    kept = one._drop(torch.ones(20, 3, 3, 2)).flatten(1)
    assert (kept == kept[:, :1]).all()


def test_every_second_block_of_a_stage_has_experts():
    stage = Stage(8, 5, 2, StageShape(4, 2.0, 0.0, experts=3))
    mixed = [isinstance(b.mlp, MixtureOfExperts) for b in stage.blocks]
    assert mixed == [False, True, False, True, False]
    x, known = torch.randn(1, 6, 6, 8), torch.ones(1, 6, 6, dtype=torch.bool)
    out, routed = stage.eval()(x, known)
    assert out.shape == x.shape
    assert len(routed) == 2
    dense = Stage(8, 2, 2, StageShape(4, 2.0, 0.0))
    assert not any(isinstance(b.mlp, MixtureOfExperts) for b in dense.blocks)


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"top_k": 5},
        {"experts": 0},
        {"capacity": 0},
        {"drop_path": 1.0},
        {"width": 50},
    ],
)
def test_blocks_that_cannot_be_made_are_refused_by_the_configuration(wrong):
    with pytest.raises(ValueError, match=r"top_k|capacity|drop_path|multiples of heads"):
        nano(**wrong)


@pytest.mark.parametrize("fast", [True, False])
def test_a_compiled_mixture_is_the_same_in_16_and_in_32_bits(fast):
    torch.compiler.reset()
    moe = mixture(experts=3).eval()
    x = torch.randn(20, 8, generator=seeded(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        out = torch.compile(moe, backend="eager", fullgraph=True)(x)[0]
        torch.testing.assert_close(out, moe(x)[0])
