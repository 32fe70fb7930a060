"""A look at the first questions before step 1: what looks like "RL does not converge" later."""

from __future__ import annotations

import json
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from mifo_ext.adapters.demonstrations import DemonstrationCatalog
from mifo_ext.data.demonstrations import continuation

SKIPPED = "questions without one are not taught"

HOLD_BYTES_PER_PARAMETER = 16.2
"""Snapshot, history and SFT's two moments in float32, and the last mask (see `ParameterHold`); in
host memory, and at their largest in a checkpoint."""

MODEL_BYTES_PER_PARAMETER = 12
"""Masters and moments in float32, as verl saves them for each model that is trained."""


class Finding(NamedTuple):
    """One line of the check.

    Attributes:
        what: what was looked at.
        seen: what was found.
        verdict: "ok", "warn" or "stop".
        mend: what to do; empty if ok.
    """

    what: str
    seen: str
    verdict: str
    mend: str = ""


def check_first_batch(
    catalog: DemonstrationCatalog, config: DictConfig, reward: Callable[..., Any]
) -> list[Finding]:
    """Look at demonstrations, prompts and lengths as the run will use them.

    Args:
        catalog: the run's demonstrations.
        config: the run's configuration.
        reward: verl's reward function, as configured.
    """
    names, covered = catalog.question_ids(), catalog.covered()
    sample = spread(covered, catalog.first_look)
    catalog.prefetch(sample)
    reasons = Counter(catalog.reason_against(name) or "verified" for name in sample)
    usable = [name for name in sample if catalog.reason_against(name) is None]
    needed = int(OmegaConf.select(config, "interleave.buffer_size") or 0)
    findings = _covered(len(covered), len(names), needed=needed)
    findings.append(_verified(reasons, len(sample), catalog.advice))
    if usable:
        findings.append(_rewarded([_reward_of(catalog, name, reward) for name in usable]))
        findings.append(_opens_thought(catalog, config, usable[0]))
        tokens = [catalog.tokens(name) for name in usable]
        limit = config.data.max_response_length
        findings.append(_cut(sum(demo.truncated for demo in tokens), len(tokens), limit))
        longest = max(len(demo.prompt_ids) for demo in tokens)
        findings.append(_prompts(longest, config.data.max_prompt_length))
    return findings


def spread(names: Sequence[str], count: int) -> list[str]:
    """Choose `count` names, evenly over all of them; all if there are fewer."""
    return list(names[:: max(1, len(names) // count)][:count])


def check_room(parameters: int, config: DictConfig, *, folder: Path) -> list[Finding]:
    """Compare disk and host memory with what the run will keep there.

    Args:
        parameters: of the model.
        config: the run's configuration.
        folder: the run's folder.
    """
    keep = config.trainer.max_actor_ckpt_to_keep or 1
    intervals = OmegaConf.select(config, "interleave.kind", default="intervals") == "intervals"
    hold = HOLD_BYTES_PER_PARAMETER if intervals else 0
    models = 2 if OmegaConf.select(config, "critic.enable") else 1
    disk_needed = parameters * (MODEL_BYTES_PER_PARAMETER * models + hold) * (keep + 1)
    disk_free = shutil.disk_usage(folder).free
    host_needed = parameters * hold / config.trainer.nnodes
    host_free = psutil.virtual_memory().available
    saves = config.trainer.save_freq > 0
    disk = _room(
        "disk for checkpoints",
        disk_needed if saves else 0,
        disk_free,
        "free some, set trainer.max_actor_ckpt_to_keep lower, or move the run folder",
    )
    host = _room(
        "host memory for the hold",
        host_needed,
        host_free,
        "set interleave.sft.moments=shared (halves it), or use more nodes",
    )
    return [disk, host] if intervals else [disk]


def parameters_in(folder: Path) -> int:
    """Parameters in a folder's safetensors files, from their headers; 0 if there are none."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for size in entry["shape"]:
                    count *= size
                total += count
    return total


def show(findings: Iterable[Finding], *, console: Console | None = None) -> None:
    """Print the check as a table, and stop the run if it is hopeless.

    Raises:
        RuntimeError: if a finding says "stop".
    """
    findings = list(findings)
    table = Table(title="Before step 1")
    for column in ("what", "found", "", "to mend"):
        table.add_column(column)
    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warning[/]", "stop": "[red]stop[/]"}
    for finding in findings:
        table.add_row(finding.what, finding.seen, marks[finding.verdict], finding.mend)
    (console or Console(width=120)).print(table)
    hopeless = [f"{f.what}: {f.seen}. {f.mend}" for f in findings if f.verdict == "stop"]
    if hopeless:
        raise RuntimeError("This run cannot learn what it is meant to. " + " ".join(hopeless))


def _covered(covered: int, questions: int, *, needed: int) -> list[Finding]:
    """Say how many questions have a demonstration, where that is known not to be all."""
    if covered == questions:
        return []
    what, text = "demonstrations there", f"for {covered} of {questions} training questions"
    if covered < needed:
        mend = f"the buffer never holds {needed}: add some, or lower interleave.buffer_size"
        return [Finding(what, text, "stop", mend)]
    few = covered < questions / 2
    return [Finding(what, text, "warn" if few else "ok", SKIPPED if few else "")]


def _verified(reasons: Mapping[str, int], seen: int, advice: str) -> Finding:
    good = reasons.get("verified", 0)
    others = ", ".join(f"{name} {n}" for name, n in reasons.items() if name != "verified")
    text = f"{good} of {seen} right" + (f" ({others})" if others else "")
    if good == 0:
        return Finding("demonstrations' answers", text, "stop", advice)
    verdict = "ok" if good >= seen / 2 else "warn"
    return Finding("demonstrations' answers", text, verdict, "" if verdict == "ok" else SKIPPED)


def _rewarded(scores: list[float]) -> Finding:
    good = sum(score >= 1 for score in scores)
    text = f"{good} of {len(scores)} right demonstrations rewarded"
    if good == 0:
        return Finding(
            "reward",
            text,
            "stop",
            "the reward rejects even right answers: check its format rules and the "
            "chat template's ending (reward.custom_reward_function.reward_kwargs)",
        )
    return Finding(
        "reward",
        text,
        "ok" if good == len(scores) else "warn",
        "" if good == len(scores) else "reward and verification disagree on some",
    )


def _opens_thought(catalog: DemonstrationCatalog, config: DictConfig, name: str) -> Finding:
    kwargs = config.reward.custom_reward_function.get("reward_kwargs") or {}
    opens = catalog.prompt_text(name).rstrip().endswith("<think>")
    wanted = bool(kwargs.get("require_think", False))
    text = f"prompt {'ends' if opens else 'does not end'} in <think>"
    if opens == wanted:
        return Finding("chat template", text, "ok")
    return Finding(
        "chat template",
        text,
        "warn",
        f"the reward {'asks for' if wanted else 'does not ask for'} </think>: see "
        "`mifo prepare model --chat-template`",
    )


def _cut(cut: int, seen: int, limit: int) -> Finding:
    text = f"{cut} of {seen} longer than {limit} tokens"
    verdict = "ok" if cut == 0 else "warn" if cut < seen else "stop"
    return Finding(
        "demonstration length",
        text,
        verdict,
        "" if cut == 0 else "they are cut and lose their EOS: data.max_response_length",
    )


def _prompts(longest: int, limit: int) -> Finding:
    text = f"longest {longest} of {limit} tokens"
    return Finding(
        "prompt length",
        text,
        "ok" if longest <= limit else "warn",
        "" if longest <= limit else "raise data.max_prompt_length",
    )


def _room(what: str, needed: float, free: float, mend: str) -> Finding:
    text = f"needs {needed / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free"
    return Finding(what, text, "ok" if needed <= free else "stop", "" if needed <= free else mend)


def _reward_of(catalog: DemonstrationCatalog, name: str, reward: Callable[..., Any]) -> float:
    row = catalog.row(name)
    answer = reward(
        data_source=row["data_source"],
        solution_str=continuation(catalog.text(name), prompt_text=catalog.prompt_text(name)),
        ground_truth=row["reward_model"]["ground_truth"],
        extra_info=row.get("extra_info"),
    )
    return float(answer["score"] if isinstance(answer, dict) else answer)
