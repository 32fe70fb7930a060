"""Which of a run's phases a step belongs to."""

from collections.abc import Sequence


def steps_of(share_or_steps: float, *, total_steps: int) -> int:
    """Turn a share of the run into whole steps, at least 1; a number from 1 up is steps already."""
    if share_or_steps >= 1:
        return int(share_or_steps)
    return max(1, round(share_or_steps * total_steps))


def last_step_of_first_phase(switch_at: float, *, total_steps: int) -> int:
    """Turn a share of the run, or a number of steps, into the last step before the switch.

    Args:
        switch_at: below 1 a share of the run's steps; else a whole number of steps.
        total_steps: steps of the run.

    Returns:
        A step from 1 to `total_steps` - 1: both phases have at least one.

    Raises:
        ValueError: if the second phase would never begin, or `switch_at` is neither.
    """
    if not switch_at > 0 or (switch_at >= 1 and switch_at != int(switch_at)):
        raise ValueError(
            f"`switch_at` must be a share in (0, 1) or a whole number of steps, but is {switch_at}."
        )
    if total_steps < 2 or switch_at >= max(total_steps, 1):
        raise ValueError(
            f"`switch_at` must leave steps for the second phase, but is {switch_at} in a run of "
            f"{total_steps} steps."
        )
    return min(steps_of(switch_at, total_steps=total_steps), total_steps - 1)


def phase_of(step: int, *, order: Sequence[str], last_of_first: int) -> str:
    """Name the phase of a step.

    Args:
        step: counted from 1.
        order: the phases, one or two.
        last_of_first: last step of the first phase; not used with one.
    """
    return order[0] if len(order) == 1 or step <= last_of_first else order[1]
