"""The training reward: the strict grader as verl's custom reward function.

verl loads it by `reward.custom_reward_function.path=pkg://mifo_ext.adapters.reward` and
`reward.custom_reward_function.name=compute_score`, and calls it from threads of its reward-loop
workers, where no signal can bound a call; the grader needs none.
"""

from collections.abc import Mapping
from typing import Any

from mifo_ext.grading import VERDICTS, grade

_RATES = tuple(verdict for verdict in VERDICTS if verdict not in ("correct", "wrong"))


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    require_think: bool = False,
    require_box: bool = True,
    timeout_s: float = 1.0,
    **_: object,
) -> dict[str, float | str]:
    """Score one rollout: 1 when its answer equals the gold, else 0.

    Args:
        data_source: verl's name of the data set; the grader is the same for all.
        solution_str: the decoded response, without the prompt.
        ground_truth: the gold answer.
        extra_info: verl's columns of the row; not used.
        require_think: the prompt ends in `<think>`, so a response without `</think>` scores 0.
        require_box: count only boxed answers, as the system prompt asks for.
        timeout_s: bound on the symbolic comparison, in seconds.

    Returns:
        `score` and `acc` in {0, 1}; one 0/1 number per verdict that is neither correct nor wrong
        (verl averages numbers into rates, and skips strings); `verdict` and `pred` as text,
        `pred` being what verl's majority vote counts.
    """
    graded = grade(
        solution_str,
        ground_truth,
        thinking=require_think,
        require_box=require_box,
        timeout_s=timeout_s,
    )
    score = 1.0 if graded.correct else 0.0
    return {
        "score": score,
        "acc": score,
        **{verdict: float(graded.verdict == verdict) for verdict in _RATES},
        "verdict": graded.verdict,
        "pred": graded.extracted or "",
    }
