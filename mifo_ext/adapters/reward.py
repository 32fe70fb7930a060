"""The training reward: the strict grader as verl's custom reward function.

verl loads it by `reward.custom_reward_function.path=pkg://mifo_ext.adapters.reward` and
`reward.custom_reward_function.name=compute_score`, and calls it from threads of its reward-loop
workers, where no signal can bound a call; the grader needs none.
"""

from collections.abc import Mapping
from typing import Any

from mifo_ext.grading import grade

_UNGRADED = ("unparsable_gold", "timeout", "error")


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: Mapping[str, Any] | None = None,
    *,
    require_think: bool = False,
    require_box: bool = True,
    timeout_s: float = 0.8,
    **_: object,
) -> dict[str, float | str]:
    """Score one rollout: 1 when its answer equals the gold, else 0.

    Args:
        data_source: verl's name of the data set; the grader is the same for all.
        solution_str: the decoded response, without the prompt.
        ground_truth: the gold answer as text or number, or a list or array that holds only it.
        extra_info: verl's columns of the row; not used.
        require_think: the prompt ends in `<think>`, so a response without `</think>` scores 0.
        require_box: count only boxed answers, as the system prompt asks for.
        timeout_s: bound on a symbolic comparison, in seconds of processor time.

    Returns:
        `score` and `acc` in {0, 1}. `no_answer` and `ungraded` (gold not readable, timeout,
        error) in {0, 1}: verl averages them into rates. `verdict` and `pred` as text, which verl
        writes to its dumps but does not average; its majority vote counts `pred`.

    Raises:
        ValueError: `ground_truth` holds several golds, or none.
    """
    graded = grade(
        solution_str,
        _only(ground_truth),
        thinking=require_think,
        require_box=require_box,
        timeout_s=timeout_s,
    )
    score = 1.0 if graded.correct else 0.0
    return {
        "score": score,
        "acc": score,
        "no_answer": float(graded.verdict == "no_answer"),
        "ungraded": float(graded.verdict in _UNGRADED),
        "verdict": graded.verdict,
        "pred": (graded.extracted or "").encode("utf-8", "replace").decode(),
    }


def _only(ground_truth: object) -> str | int | float:
    if isinstance(ground_truth, str | int | float):
        return ground_truth
    # Parquet columns arrive as numpy scalars and arrays.
    golds = ground_truth.tolist() if hasattr(ground_truth, "tolist") else ground_truth
    golds = list(golds) if isinstance(golds, list | tuple) else [golds]
    if len(golds) != 1 or not isinstance(golds[0], str | int | float):
        raise ValueError(
            f"`ground_truth` must be one gold, but is {golds!r}. Keep one answer per row."
        )
    return golds[0]
