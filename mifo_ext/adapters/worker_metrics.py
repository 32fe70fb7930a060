"""What the actor's worker says of an SFT interval or of a step of an SFT phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mifo_ext.adapters.hold_settings import HoldReport, StepReport


def hold_metrics(report: HoldReport) -> dict[str, float]:
    """What was held."""
    return {
        "interleave/hold/held_fraction": report.held_fraction,
        "interleave/hold/held": report.held,
        "interleave/hold/moved": report.moved,
        "interleave/hold/rl_update_norm": report.update_norm,
        **({} if report.threshold is None else {"interleave/hold/threshold": report.threshold}),
        **({} if report.jaccard is None else {"interleave/hold/jaccard": report.jaccard}),
    }


def interval_metrics(
    reports: Sequence[StepReport], verl_metrics: dict[str, Any]
) -> dict[str, float]:
    """How the steps went that the hold took."""
    finite = [report for report in reports if report.applied]
    metrics = _loss_metrics(verl_metrics, steps=len(reports), finite=len(finite))
    if finite:
        metrics |= {
            "interleave/sft/gradient_norm": _mean([r.gradient_norm for r in finite]),
            "interleave/sft/update_norm": _mean([r.update_norm for r in finite]),
            "interleave/hold/gradient_share": _mean([r.held_gradient_share for r in finite]),
        }
    return metrics


def phase_metrics(verl_metrics: dict[str, Any]) -> dict[str, float]:
    """How the steps went that the actor's own optimizer took."""
    norms = verl_metrics["grad_norm"]
    finite = [norm for norm in norms if math.isfinite(norm)]
    metrics = _loss_metrics(verl_metrics, steps=len(norms), finite=len(finite))
    if finite:
        metrics["interleave/sft/gradient_norm"] = _mean(finite)
    return metrics


def _loss_metrics(verl_metrics: dict[str, Any], *, steps: int, finite: int) -> dict[str, float]:
    return {
        "interleave/sft/steps": finite,
        "interleave/sft/skipped_steps": steps - finite,
        "interleave/sft/loss": _mean(verl_metrics["loss"]),
        "interleave/sft/tokens_kept": sum(verl_metrics["tokens_kept"]),
        "interleave/sft/tokens": sum(verl_metrics["tokens"]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
