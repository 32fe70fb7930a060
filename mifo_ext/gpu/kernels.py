"""The kernels of a phase change, each of whose programs takes one block of entries.

They are launched with `enable_fp_fusion=False`: an operation rounds once, as in torch's, and an
entry has the same bits wherever it lies; where two are to round once, `tl.fma` says so. Sums go
into one place for each program, so that their order never changes. Addresses may be those of
page-locked host memory: what is read and written there goes over the link, both ways at once.

Numbers that change from launch to launch are not specialized: Triton would compile a kernel anew,
which takes a second, whenever one of them is 1 or a multiple of 16.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

_INFINITY_BITS = tl.constexpr(0x7F800000)


@triton.jit
def address(table, row, ALIGNED: tl.constexpr):
    """Where a row's entries of a tensor of float32 begin."""
    first = tl.load(table + row).to(tl.pointer_type(tl.float32))
    if ALIGNED:
        first = tl.multiple_of(first, 16)
    return first


@triton.jit
def mask_address(table, row):
    """Where a row's entries of a packed mask begin."""
    return tl.load(table + row).to(tl.pointer_type(tl.uint8))


@triton.jit
def held_bits(packed, at, inside):
    """Whether the bits of a packed mask are set."""
    return ((tl.load(packed + (at >> 3), inside, 0).to(tl.int32) >> (at & 7)) & 1) != 0


@triton.jit
def inside_of(at, length, WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    """Which entries of a block exist; where all do, a constant, so that reads may be wide."""
    return tl.full((BLOCK,), 1, tl.int1) if WHOLE else at < length


@triton.jit
def _weighed(
    start, end, history, carried, at, inside, fresh, decay,
    HISTORY: tl.constexpr,
):  # fmt: skip
    """How far entries moved, and their importance."""
    change = tl.load(end + at, inside, 0.0) - tl.load(start + at, inside, 0.0)
    importance = tl.abs(change) * fresh
    if HISTORY:
        before = tl.load(history + at, inside, 0.0)
        importance += tl.where(held_bits(carried, at, inside), before, 0.0) * decay
    return change, importance


@triton.jit
def _add_up(change, totals):
    wide = change.to(tl.float64)
    tl.store(totals, tl.sum((change != 0).to(tl.float64)))
    tl.store(totals + 1, tl.sum(wide * wide))


@triton.jit
def weigh(
    start, end, history, carried, totals, count, fresh, decay,
    HISTORY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write importance over `start`; for each block entries that changed, and their squares."""
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    change, importance = _weighed(
        start, end, history, carried, at, inside, fresh, decay, HISTORY
    )  # fmt: skip
    tl.store(start + at, importance, inside)
    _add_up(change, totals + 2 * block)


@triton.jit
def _look(
    key, pattern, block, at, length, packed, aside, used, counts, place, low, high, room,
    WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Count a block's keys, below every band where there is no entry, and improper patterns.

    Bits of those above go into `packed`; those in the band with their places into `aside`.
    """
    above = key > high
    within = (key >= low) & (key <= high)
    improper = (pattern < 0) | (pattern >= _INFINITY_BITS)
    eights = tl.reshape(above.to(tl.int32), (BLOCK // 8, 8)) << tl.arange(0, 8)[None, :]
    byte = block * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    written = inside_of(byte, (length + 7) // 8, WHOLE, BLOCK // 8)
    tl.store(packed + byte, tl.sum(eights, 1).to(tl.uint8), written)
    found = tl.sum(within.to(tl.int32))
    tl.atomic_add(counts, tl.sum(above.to(tl.int32)).to(tl.int64))
    tl.atomic_add(counts + 1, found.to(tl.int64))
    tl.atomic_add(counts + 2, tl.sum(improper.to(tl.int32)).to(tl.int64))
    if found > 0:
        first = tl.atomic_add(used, found.to(tl.int64))
        slot = first + tl.cumsum(within.to(tl.int32), 0) - 1
        placed = (key.to(tl.int64) << 32) | (at.to(tl.int64) + place)
        tl.store(aside + slot, placed, within & (slot < room))


@triton.jit(do_not_specialize=["place", "low", "high", "room"])
def around(
    keys, bits, packed, aside, used, counts, count, place, low, high, room, BLOCK: tl.constexpr
):
    """Count keys above and in a band, and improper patterns; see `_look`."""
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    key, pattern = tl.load(keys + at, inside, -1), tl.load(bits + at, inside, 0)
    _look(
        key, pattern, block, at, count, packed, aside, used, counts, place, low, high, room,
        False, BLOCK,
    )  # fmt: skip


@triton.jit
def _weigh_around_block(
    starts, ends, histories, carried, packed, length, place, row, block, at, totals, aside, used,
    counts, fresh, decay, low, high, room,
    HISTORY: tl.constexpr, ALIGNED: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    inside = inside_of(at, length, WHOLE, BLOCK)
    start = address(starts, row, ALIGNED)
    change, importance = _weighed(
        start, address(ends, row, ALIGNED), address(histories, row, ALIGNED),
        mask_address(carried, row), at, inside, fresh, decay, HISTORY,
    )  # fmt: skip
    tl.store(start + at, importance, inside)
    _add_up(change, totals)
    pattern = importance.to(tl.int32, bitcast=True)
    _look(
        tl.where(inside, pattern, -1), tl.where(inside, pattern, 0), block, at, length,
        mask_address(packed, row), aside, used, counts + 3 * row, place, low, high, room,
        WHOLE, BLOCK,
    )  # fmt: skip


@triton.jit(do_not_specialize=["low", "high", "room", "blocks"])
def weigh_around(
    starts, ends, histories, carried, packed, lengths, places, blocks, totals, aside, used, counts,
    fresh, decay, low, high, room,
    HISTORY: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`weigh` and `around` of all rows: the keys are the importance's patterns."""
    program = tl.program_id(0)
    row, block = program // blocks, program % blocks
    length, place = tl.load(lengths + row), tl.load(places + row)
    at = block * BLOCK + tl.arange(0, BLOCK)
    sums = totals + 2 * program.to(tl.int64)
    if (block + 1) * BLOCK <= length:
        _weigh_around_block(
            starts, ends, histories, carried, packed, length, place, row, block, at, sums,
            aside, used, counts, fresh, decay, low, high, room, HISTORY, ALIGNED, True, BLOCK,
        )  # fmt: skip
    elif block * BLOCK < length:
        _weigh_around_block(
            starts, ends, histories, carried, packed, length, place, row, block, at, sums,
            aside, used, counts, fresh, decay, low, high, room, HISTORY, ALIGNED, False, BLOCK,
        )  # fmt: skip


@triton.jit
def _copy_block(
    sources, targets, length, row, at, ALIGNED: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    inside = inside_of(at, length, WHOLE, BLOCK)
    value = tl.load(address(sources, row, ALIGNED) + at, inside, 0.0)
    tl.store(address(targets, row, ALIGNED) + at, value, inside)


@triton.jit
def copy(sources, targets, lengths, blocks, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """Copy all rows."""
    row, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    length = tl.load(lengths + row)
    at = block * BLOCK + tl.arange(0, BLOCK)
    if (block + 1) * BLOCK <= length:
        _copy_block(sources, targets, length, row, at, ALIGNED, True, BLOCK)
    elif block * BLOCK < length:
        _copy_block(sources, targets, length, row, at, ALIGNED, False, BLOCK)


@triton.jit(do_not_specialize=["stride", "blocks"])
def sample(
    starts, ends, histories, carried, lengths, firsts, outs, blocks, keys, stride, fresh, decay,
    HISTORY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The patterns of importance, from 0 up, of every so manyth entry of all rows from a first."""
    row, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    number = block * BLOCK + tl.arange(0, BLOCK)
    at = tl.load(firsts + row) + number * stride
    inside = at < tl.load(lengths + row)
    _, importance = _weighed(
        address(starts, row, False), address(ends, row, False), address(histories, row, False),
        mask_address(carried, row), at, inside, fresh, decay, HISTORY,
    )  # fmt: skip
    pattern = importance.to(tl.int32, bitcast=True)
    tl.store(keys + tl.load(outs + row) + number, tl.maximum(pattern, 0), inside)


@triton.jit(do_not_specialize=["count", "first", "last"])
def set_bits(packed, placed, count, first, last, BLOCK: tl.constexpr):
    """Set the bits at the places, the low 32 bits, of numbers from `first` to `last`.

    The mask is whole words of 4 bytes.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    number = tl.load(placed + at, inside, 0)
    inside = inside & (number >= first) & (number <= last)
    place = number & 0xFFFFFFFF
    bit = tl.full((BLOCK,), 1, tl.int32) << (place & 31).to(tl.int32)
    tl.atomic_or(packed.to(tl.pointer_type(tl.int32)) + (place >> 5), bit, inside)


@triton.jit(do_not_specialize=["key", "at", "size"])
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


@triton.jit(do_not_specialize=["low", "first", "last"])
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
