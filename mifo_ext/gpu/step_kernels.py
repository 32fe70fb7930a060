"""The kernels of an SFT step, each of whose programs takes one block of one piece.

Relies on: torch's own AdamW for GPUs (`torch.optim.adam._multi_tensor_adam`) takes the operations
of `_step_block` in this order.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from mifo_ext.gpu.kernels import address, held_bits, inside_of, mask_address


@triton.jit
def _square_block(
    gradients, masks, length, totals, row, at, HELD: tl.constexpr,
    ALIGNED: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    inside = inside_of(at, length, WHOLE, BLOCK)
    value = tl.load(address(gradients, row, ALIGNED) + at, inside, 0.0).to(tl.float64)
    square = value * value
    if HELD:
        held = held_bits(mask_address(masks, row), at, inside)
        tl.store(totals, tl.sum(tl.where(held, 0.0, square)))
        tl.store(totals + 1, tl.sum(tl.where(held, square, 0.0)))
    else:
        tl.store(totals, tl.sum(square))


@triton.jit
def squared_norms(
    gradients, masks, lengths, blocks, totals, HELD: tl.constexpr, ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """For each block of each row the squares of live and of held entries."""
    program = tl.program_id(0)
    row, block = program // blocks, program % blocks
    length = tl.load(lengths + row)
    at = block * BLOCK + tl.arange(0, BLOCK)
    sums = totals + 2 * program.to(tl.int64)
    if (block + 1) * BLOCK <= length:
        _square_block(gradients, masks, length, sums, row, at, HELD, ALIGNED, True, BLOCK)
    elif block * BLOCK < length:
        _square_block(gradients, masks, length, sums, row, at, HELD, ALIGNED, False, BLOCK)


@triton.jit
def _step_block(
    weights, gradients, firsts, seconds, masks, length, root, stride, total, row, at,
    scale, shrink, blend, decay, grow, eps,
    FROM_FIRST: tl.constexpr, HELD: tl.constexpr, EXACT: tl.constexpr,
    ALIGNED: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    inside = inside_of(at, length, WHOLE, BLOCK)
    weight, first = address(weights, row, ALIGNED) + at, address(firsts, row, ALIGNED) + at
    second = address(seconds, row, ALIGNED) + at
    w, m, v = (
        tl.load(weight, inside, 0.0),
        tl.load(first, inside, 0.0),
        tl.load(second, inside, 0.0),
    )
    g = tl.load(address(gradients, row, ALIGNED) + at, inside, 0.0) * scale
    live = inside
    if HELD:
        held = held_bits(mask_address(masks, row), at, inside)
        if EXACT:
            live = inside & (held == 0)
        else:
            g = tl.where(held, 0.0, g)
    new_m = tl.fma(g - m, blend, m if FROM_FIRST else g)
    new_v = tl.fma(g * g, grow, v * decay)
    update = tl.div_rn(new_m, tl.div_rn(tl.sqrt_rn(new_v), root) + eps)
    new_w = tl.fma(update, stride, w * shrink)
    # What is held is written as it was, so that lines of host memory are written whole.
    tl.store(weight, tl.where(live, new_w, w), inside)
    tl.store(first, tl.where(live, new_m, m), inside)
    tl.store(second, tl.where(live, new_v, v), inside)
    change = tl.where(live, new_w - w, 0.0).to(tl.float64)
    tl.store(total, tl.sum(change * change))


@triton.jit
def step(
    weights, gradients, firsts, seconds, masks, lengths, roots, strides, blocks, totals,
    scale, shrink, blend, decay, grow, eps,
    FROM_FIRST: tl.constexpr, HELD: tl.constexpr, EXACT: tl.constexpr,
    ALIGNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take an AdamW step in place; for each block the sum of squares of the change."""
    program = tl.program_id(0)
    row, block = program // blocks, program % blocks
    length, root, stride = tl.load(lengths + row), tl.load(roots + row), tl.load(strides + row)
    at = block * BLOCK + tl.arange(0, BLOCK)
    total = totals + program
    if (block + 1) * BLOCK <= length:
        _step_block(
            weights, gradients, firsts, seconds, masks, length, root, stride, total, row, at,
            scale, shrink, blend, decay, grow, eps, FROM_FIRST, HELD, EXACT, ALIGNED, True, BLOCK,
        )  # fmt: skip
    elif block * BLOCK < length:
        _step_block(
            weights, gradients, firsts, seconds, masks, length, root, stride, total, row, at,
            scale, shrink, blend, decay, grow, eps, FROM_FIRST, HELD, EXACT, ALIGNED, False, BLOCK,
        )  # fmt: skip
