"""verl's own replay buffer, looking at its queue as often as the recipes' does on a CPU.

verl looks every two seconds and has no setting for it; a whole step of the tiny model takes five,
so a comparison would measure that wait.
"""

from __future__ import annotations

from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class EagerReplayBuffer(ReplayBuffer):  # type: ignore[misc]
    """`ReplayBuffer` with the interval that `scale=cpu_tiny` sets for the recipes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"poll_interval": 0.1})
