"""How host memory and the accelerator work on a model's entries together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mifo_ext.core.passes import TORCH, Passes

_SLOTS = 3
"""One piece comes, one is worked on, one goes back."""


class HostLink:
    """Pieces of host memory on their way to the device, while others go back.

    Tensors that lie on the device are worked on where they are. The pieces are copies in a few
    places that are used in turn, so a piece is the caller's until so many others were brought. Wait
    for the device (`Layout.wait`) before the host reads what was put back, and before this goes.

    Args:
        device: where pieces are brought to.
        size: entries of the largest piece.
    """

    def __init__(self, device: torch.device, size: int) -> None:
        self._device, self._size = device, size
        self._away = device.type != "cpu"
        self._slots = [_Slot() for _ in range(_SLOTS if self._away else 0)]
        self._turn = 0
        self._back = torch.Stream(device) if self._away else None

    def bring(self, *pieces: Tensor) -> Sequence[Tensor]:
        """The pieces on the device; copies of those that lie elsewhere."""
        if not self._away:
            return pieces
        self._turn = (self._turn + 1) % _SLOTS
        return [self._brought(number, piece) for number, piece in enumerate(pieces)]

    def put_back(self, *pairs: tuple[Tensor, Tensor]) -> None:
        """Copy what was brought last, and changed, to where it came from: (home, changed)."""
        if self._back is None:
            return
        slot = self._slots[self._turn]
        self._back.wait_stream(torch.accelerator.current_stream())
        with self._back:
            for home, changed in pairs:
                if home.device != changed.device:
                    home.copy_(changed, non_blocking=True)
        slot.gone = self._back.record_event()

    def _brought(self, number: int, piece: Tensor) -> Tensor:
        if piece.device.type != "cpu":
            return piece
        slot = self._slots[self._turn]
        if slot.gone is not None:
            # The host waits, not the device: two queues that are filled far ahead and wait for each
            # other in turn take several times as long (measured on an H100).
            slot.gone.synchronize()
            slot.gone = None
        while number >= len(slot.places):
            place = torch.empty(self._size, dtype=piece.dtype, device=self._device)
            slot.places.append(place)
        return slot.places[number][: piece.numel()].copy_(piece, non_blocking=True)


class _Slot:
    """Device memory for one piece of each tensor, and when it is free again."""

    def __init__(self) -> None:
        self.places: list[Tensor] = []
        self.gone: torch.Event | None = None


def passes_where(device: torch.device) -> Passes:
    """How entries are gone through on this device."""
    if device.type == "cpu":
        from mifo_ext.loops import LOOPS  # Where there is an accelerator, no compiler is needed.

        return LOOPS
    if device.type == "cuda":
        try:
            from mifo_ext.gpu import KERNELS  # Triton comes with torch for GPUs.
        except ModuleNotFoundError:
            return TORCH
        return KERNELS
    return TORCH
