"""What one launch does to all pieces is what torch's operations do to each; see `kernels.py`."""

from __future__ import annotations

import pytest

from mifo_ext.gpu.table import BLOCK
from tests.gpu.kernels import WAY
from tests.support.many_pieces import check_a_copy, check_a_step, check_an_ended_phase


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("room", [5, 4 * BLOCK])
def test_an_ended_phase_is_weighed_and_looked_at_in_one_launch(carried: bool, room: int) -> None:
    check_an_ended_phase(WAY, carried=carried, room=room)


@pytest.mark.parametrize("shift", [0, 1])
def test_values_are_copied_in_one_launch(shift: int) -> None:
    check_a_copy(WAY, shift=shift)


@pytest.mark.parametrize("shift", [0, 1])
def test_many_pieces_are_one_launch_wherever_they_lie(shift: int) -> None:
    check_a_step(WAY, shift=shift)
