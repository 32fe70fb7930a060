"""Where the entries of a module's parameters lie on this rank.

One view of FSDP2's DTensors, FSDP1's flat parameters and plain parameters: spans of consecutive
entries of a parameter of the unsharded model, none longer than `SPAN` entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mifo_ext.adapters.wholes import Whole, flat, wholes_of
from mifo_ext.core.freezing import masks_of
from mifo_ext.core.pieces import Pieces, each_alone

SPAN = 1 << 20
"""Entries handled at once, 4 MiB in float32; a multiple of 8, so that masks fill whole bytes."""


class Span(NamedTuple):
    """Consecutive entries of one parameter that lie on this rank.

    Attributes:
        name: the parameter's name in the unsharded model.
        start: index of the first entry in the flattened, unsharded parameter.
        length: number of entries, at most `SPAN`.
        offset: index of the first entry in the local shard that holds it.
        parameter: the Parameter object that the optimizer knows.
    """

    name: str
    start: int
    length: int
    offset: int
    parameter: nn.Parameter


class Part(NamedTuple):
    """Entries of a span that are worked on at once.

    Attributes:
        span: the span's place among the spans.
        inside: which of its entries; it begins at a multiple of 8 and may end behind the last.
    """

    span: int
    inside: slice

    def of(self, values: list[Tensor]) -> Tensor:
        """Its entries of values that are given for every span, as a view."""
        return values[self.span][self.inside]

    def of_mask(self, packed: list[Tensor]) -> Tensor:
        """Its bytes of masks that are given packed for every span, as a view."""
        return packed[self.span][self.inside.start // 8 : -(-self.inside.stop // 8)]


class WithGradient(NamedTuple):
    """The parameters of a layout that have a gradient.

    Attributes:
        parameters: these.
        gradients: their gradients, flat.
        pieces: where their spans lie in either, and in a mask of all spans.
        spans: the places of these among the spans.
    """

    parameters: list[nn.Parameter]
    gradients: list[Tensor]
    pieces: Pieces
    spans: list[int]


class Layout:
    """The trainable parameters of a module, as spans on this rank.

    Attributes:
        spans: this rank's spans, by name and start.
        names: every trainable parameter of the unsharded model, sorted.
        entries: number of trainable entries of the unsharded model; FSDP's padding is none.
        group: ranks that share the model's entries; None if this rank holds them all.
        parameters: the Parameter objects that the spans lie in, each once.
        pieces: where the spans lie in `parameters`, and in a mask of all of them.
        spans_alone: where they lie in values that are given for every span, and in that mask.
    """

    def __init__(self, module: nn.Module) -> None:
        wholes, self.group, self._device = wholes_of(module)
        self.names = [whole.name for whole in wholes]
        self.entries = sum(whole.entries for whole in wholes)
        self.spans = [span for whole in wholes for span in _cut(whole)]
        numbers: dict[nn.Parameter, int] = {}
        tensor = [numbers.setdefault(span.parameter, len(numbers)) for span in self.spans]
        self.parameters = list(numbers)
        lengths = [span.length for span in self.spans]
        places = accumulate((-(-length // 8) * 8 for length in lengths), initial=0)
        first = [span.offset for span in self.spans]
        self.pieces = Pieces(*map(_int64, (tensor, first, lengths, [*places][:-1])))
        self.spans_alone = each_alone(self.pieces)
        self._having: list[int] = []
        self._having_at = self._spans_of([])

    @property
    def ranks(self) -> int:
        """How many ranks share the model's entries."""
        return 1 if self.group is None else self.group.size()

    @property
    def rank(self) -> int:
        """This rank's place among them."""
        return 0 if self.group is None else self.group.rank()

    def parts(self, size: int) -> list[Part]:
        """All spans in parts of so many entries, a multiple of 8."""
        return [
            Part(i, slice(first, first + size))
            for i, span in enumerate(self.spans)
            for first in range(0, span.length, size)
        ]

    @property
    def device(self) -> torch.device:
        """Where the entries are now."""
        return flat(self.parameters[0]).device if self.parameters else torch.device("cpu")

    def values(self) -> list[Tensor]:
        """Each span's entries, as views of where they are now."""
        return self.views([flat(parameter) for parameter in self.parameters])

    def with_gradient(self) -> WithGradient:
        """What has a gradient."""
        have = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if have != self._having:  # It is the same at every step, mostly.
            self._having, self._having_at = have, self._spans_of(have)
        parameters = [self.parameters[i] for i in have]
        gradients = [flat(p.grad) for p in parameters if p.grad is not None]
        return WithGradient(parameters, gradients, *self._having_at)

    def _spans_of(self, parameters: list[int]) -> tuple[Pieces, list[int]]:
        """The spans of some parameters: as pieces of these, and their places among all."""
        number = torch.full((len(self.parameters),), -1)
        number[parameters] = torch.arange(len(parameters))
        tensor = number[self.pieces.tensor]
        kept = tensor >= 0
        pieces = Pieces(tensor[kept], *(row[kept] for row in self.pieces[1:]))
        return pieces, kept.nonzero().squeeze(1).tolist()

    def gradients(self) -> list[Tensor | None]:
        """Each span's gradient, as a view; None where the parameter has none."""
        grads = [None if p.grad is None else flat(p.grad) for p in self.parameters]
        return [
            None if (grad := grads[i]) is None else grad[s.offset : s.offset + s.length]
            for s, i in zip(self.spans, self.pieces.tensor.tolist(), strict=True)
        ]

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        """Each span's entries of flat tensors, one for each of `parameters`."""
        return [
            tensors[i][s.offset : s.offset + s.length]
            for s, i in zip(self.spans, self.pieces.tensor.tolist(), strict=True)
        ]

    def masks(self, packed_P: Tensor) -> list[Tensor]:
        """Each span's mask, as a view of the packed mask of all."""
        return masks_of(packed_P, self.pieces.length.tolist())

    def sum_over_ranks(self, counts: Tensor) -> Tensor:
        """Add up a tensor over the ranks that share the model; it comes back on its device."""
        if self.group is None:
            return counts
        total = counts.to(self._device, copy=True)
        dist.all_reduce(total, group=self.group)
        return total.to(counts.device)

    def host_buffers(self, *, zero: bool = False) -> list[Tensor]:
        """Host memory in float32 for every span, page-locked where there is an accelerator."""
        pin = torch.accelerator.is_available()
        make = torch.zeros if zero else torch.empty
        return [make(s.length, dtype=torch.float32, pin_memory=pin) for s in self.spans]

    def host_mask(self) -> Tensor:
        """Host memory for the packed mask of all spans."""
        pin = torch.accelerator.is_available()
        bytes_ = int((-(-self.pieces.length // 8)).sum())
        return torch.empty(bytes_, dtype=torch.uint8, pin_memory=pin)

    def host_copy(self, values: list[Tensor]) -> list[Tensor]:
        """A copy of values that are given for every span, in `host_buffers`."""
        buffers = self.host_buffers()
        for buffer_N, value_N in zip(buffers, values, strict=True):
            buffer_N.copy_(value_N)
        return buffers

    @staticmethod
    def wait() -> None:
        """Wait for copies to and from the accelerator, so that the host may read them."""
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def sum_pairs(self, pairs: list[Tensor]) -> tuple[float, float]:
        """Add up pairs of float64 numbers, one or none a span, over this rank and over ranks."""
        zero = torch.zeros(2, dtype=torch.float64)
        total = torch.stack(pairs).sum(0).cpu() if pairs else zero
        first, second = self.sum_over_ranks(total).tolist()
        return first, second


def _int64(numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def _cut(whole: Whole) -> Iterator[Span]:
    for first in range(0, whole.length, SPAN):
        length = min(SPAN, whole.length - first)
        yield Span(whole.name, whole.start + first, length, whole.offset + first, whole.parameter)
