"""The kernels themselves, each of whose programs takes one block of entries.

They are launched with `enable_fp_fusion=False`: an operation rounds once, as in torch's, and an
entry has the same bits wherever it lies; where two are to round once, `tl.fma` says so. Sums go
into one place for each program, so that their order never changes.

Relies on: torch's own AdamW for GPUs (`torch.optim.adam._multi_tensor_adam`) takes the operations
of `_step_block` in this order.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

_INFINITY_BITS = tl.constexpr(0x7F800000)


@triton.jit
def weigh(
    start, end, history, carried, totals, count, fresh, decay,
    HISTORY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write importance over `start`; for each block entries that changed, and their squares."""
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    change = tl.load(end + at, inside, 0.0) - tl.load(start + at, inside, 0.0)
    importance = tl.abs(change) * fresh
    if HISTORY:
        bits = tl.load(carried + (at >> 3), inside, 0).to(tl.int32)
        before = tl.load(history + at, inside, 0.0)
        importance += tl.where(((bits >> (at & 7)) & 1) != 0, before, 0.0) * decay
    tl.store(start + at, importance, inside)
    wide = change.to(tl.float64)
    tl.store(totals + 2 * block, tl.sum((change != 0).to(tl.float64)))
    tl.store(totals + 2 * block + 1, tl.sum(wide * wide))


@triton.jit
def around(
    keys, bits, packed, aside, used, counts, count, place, low, high, room, BLOCK: tl.constexpr
):
    """Count keys above and in a band, and improper patterns.

    Bits of those above into `packed`; those in the band with their places into `aside`.
    """
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    key = tl.load(keys + at, inside, -1)  # below every band
    pattern = tl.load(bits + at, inside, 0)
    above = key > high
    within = (key >= low) & (key <= high)
    improper = (pattern < 0) | (pattern >= _INFINITY_BITS)
    eights = tl.reshape(above.to(tl.int32), (BLOCK // 8, 8)) << tl.arange(0, 8)[None, :]
    byte = block * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    tl.store(packed + byte, tl.sum(eights, 1).to(tl.uint8), byte < (count + 7) // 8)
    found = tl.sum(within.to(tl.int32))
    tl.atomic_add(counts, tl.sum(above.to(tl.int32)).to(tl.int64))
    tl.atomic_add(counts + 1, found.to(tl.int64))
    tl.atomic_add(counts + 2, tl.sum(improper.to(tl.int32)).to(tl.int64))
    if found > 0:
        first = tl.atomic_add(used, found.to(tl.int64))
        slot = first + tl.cumsum(within.to(tl.int32), 0) - 1
        placed = (key.to(tl.int64) << 32) | (at.to(tl.int64) + place)
        tl.store(aside + slot, placed, within & (slot < room))


@triton.jit
def ties_by_block(keys, counts, count, key, at, size, BLOCK: tl.constexpr):
    """Add the keys that equal `key` to the counts of the blocks of `size` they lie in."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    equal = (tl.load(keys + index, index < count, -1) == key).to(tl.int32)
    number = tl.sum(equal)
    if number > 0:
        first = (at + tl.program_id(0).to(tl.int64) * BLOCK) // size
        last = (at + tl.minimum(tl.program_id(0).to(tl.int64) * BLOCK + BLOCK, count) - 1) // size
        if first == last:  # A single address is written to once, not by every entry.
            tl.atomic_add(counts + first, number.to(tl.int64))
        else:
            tl.atomic_add(
                counts + (at + index.to(tl.int64)) // size, equal.to(tl.int64), equal != 0
            )


@triton.jit
def histogram(keys, counts, count, first, last, low, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """Add the keys from `first` to `last` to bins of so many low bits."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + at, at < count, -1)
    inside = (key >= first) & (key <= last)
    if tl.sum(inside.to(tl.int32)) > 0:
        # What lies outside goes to a bin of its own.
        found = tl.histogram(tl.where(inside, (key - first) >> low, BINS), 2 * BINS)
        number = tl.arange(0, 2 * BINS)
        tl.atomic_add(counts + number, found.to(tl.int64), (number < BINS) & (found > 0))


@triton.jit
def _ones(byte):
    """How many bits of each byte are set."""
    byte = byte - ((byte >> 1) & 0x55)
    byte = (byte & 0x33) + ((byte >> 2) & 0x33)
    return (byte + (byte >> 4)) & 0x0F


@triton.jit
def overlap(one, other, totals, count, BLOCK: tl.constexpr):
    """For each block the bits that are set in both, and in either."""
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(one + at, at < count, 0).to(tl.int32)
    b = tl.load(other + at, at < count, 0).to(tl.int32)
    tl.store(totals + 2 * block, tl.sum(_ones(a & b)).to(tl.int64))
    tl.store(totals + 2 * block + 1, tl.sum(_ones(a | b)).to(tl.int64))


@triton.jit
def _address(table, row, ALIGNED: tl.constexpr):
    """Where a row's entries of a tensor of float32 begin."""
    first = tl.load(table + row).to(tl.pointer_type(tl.float32))
    if ALIGNED:
        first = tl.multiple_of(first, 16)
    return first


@triton.jit
def _held_bits(masks, row, at, inside):
    """Whether entries of a row are held."""
    packed = tl.load(masks + row).to(tl.pointer_type(tl.uint8))
    return ((tl.load(packed + (at >> 3), inside, 0).to(tl.int32) >> (at & 7)) & 1) != 0


@triton.jit
def _square_block(
    gradients, masks, length, totals, row, at, HELD: tl.constexpr,
    ALIGNED: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # A mask that is constant leaves reads as wide as they can be.
    inside = tl.full((BLOCK,), 1, tl.int1) if WHOLE else at < length
    value = tl.load(_address(gradients, row, ALIGNED) + at, inside, 0.0).to(tl.float64)
    square = value * value
    if HELD:
        held = _held_bits(masks, row, at, inside)
        tl.store(totals, tl.sum(tl.where(held, 0.0, square)))
        tl.store(totals + 1, tl.sum(tl.where(held, square, 0.0)))
    else:
        tl.store(totals, tl.sum(square))


@triton.jit
def squared_norms(
    gradients, masks, lengths, totals, HELD: tl.constexpr, ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """For each block the squares of live and of held entries; row and block are the program's."""
    row, block = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths + row)
    at = block * BLOCK + tl.arange(0, BLOCK)
    sums = totals + 2 * (row.to(tl.int64) * tl.num_programs(1) + block)
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
    inside = tl.full((BLOCK,), 1, tl.int1) if WHOLE else at < length
    weight, first = _address(weights, row, ALIGNED) + at, _address(firsts, row, ALIGNED) + at
    second = _address(seconds, row, ALIGNED) + at
    w, m, v = (
        tl.load(weight, inside, 0.0),
        tl.load(first, inside, 0.0),
        tl.load(second, inside, 0.0),
    )
    g = tl.load(_address(gradients, row, ALIGNED) + at, inside, 0.0) * scale
    changed = inside
    if HELD:
        held = _held_bits(masks, row, at, inside)
        if EXACT:
            changed = inside & (held == 0)
        else:
            g = tl.where(held, 0.0, g)
    new_m = tl.fma(g - m, blend, m if FROM_FIRST else g)
    new_v = tl.fma(g * g, grow, v * decay)
    update = tl.div_rn(new_m, tl.div_rn(tl.sqrt_rn(new_v), root) + eps)
    new_w = tl.fma(update, stride, w * shrink)
    tl.store(weight, new_w, changed)
    tl.store(first, new_m, changed)
    tl.store(second, new_v, changed)
    change = tl.where(changed, new_w - w, 0.0).to(tl.float64)
    tl.store(total, tl.sum(change * change))


@triton.jit
def step(
    weights, gradients, firsts, seconds, masks, lengths, roots, strides, totals,
    scale, shrink, blend, decay, grow, eps,
    FROM_FIRST: tl.constexpr, HELD: tl.constexpr, EXACT: tl.constexpr,
    ALIGNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take an AdamW step in place; for each block the sum of squares of the change."""
    row, block = tl.program_id(0), tl.program_id(1)
    length, root, stride = tl.load(lengths + row), tl.load(roots + row), tl.load(strides + row)
    at = block * BLOCK + tl.arange(0, BLOCK)
    total = totals + row.to(tl.int64) * tl.num_programs(1) + block
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
