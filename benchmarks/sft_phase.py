"""What choosing tokens by entropy costs an SFT phase: time and peak memory, in verl's engine.

    python benchmarks/sft_phase.py [--quick] [--repeats 7] [--json FILE]

`+recipe=sft` on a random Qwen2, one rank, the actor's own optimizer, nothing held: forward,
backward and step on the same demonstrations with `tokens: high_entropy` (0.2 of them) and with
`tokens: all`. Times are interleaved; their ratio is the median of the ratios within a round.
Memory is how far it rises in a second step above what the model and the optimizer take, each in
a fresh process. The growth columns are over the same vocabulary's shortest demonstrations.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from measure import in_tidy_process, interleaved, peak_rise_bytes, ratio, show
from rich.table import Table

FRACTIONS = {"high_entropy": 0.2, "all": 1.0}
PROMPT_TOKENS = 32
DEMONSTRATIONS = 2


class Case(NamedTuple):
    """A model and the length of its demonstrations, in tokens."""

    vocabulary: int
    hidden: int
    layers: int
    tokens: int


QUICK = [Case(32_000, 256, 2, tokens) for tokens in (128, 256)]
CASES = [
    *(Case(32_000, 256, 4, tokens) for tokens in (256, 512, 1_024, 2_048)),
    *(Case(152_000, 256, 2, tokens) for tokens in (256, 512)),
]


def write_model(case: Case, folder: Path) -> None:
    """A random model, and a tokenizer that verl loads and nobody asks."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        intermediate_size=4 * case.hidden,
        num_hidden_layers=case.layers,
        num_attention_heads=case.hidden // 64,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"0": 0, "1": 1}, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="1").save_pretrained(
        folder
    )


def build_worker(model: str) -> Any:
    """Our actor worker as verl's trainer would build it, alone."""
    import torch.distributed as dist

    meeting = f"file://{model}/rendezvous_{os.getpid()}"
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", VERL_ENGINE_VENDOR="mifo")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="1")  # read by verl, used by nobody
    from hydra import compose, initialize_config_module

    import mifo_ext.adapters.register  # noqa: F401
    from mifo_ext.adapters.worker import InterleavedWorker

    actor = "actor_rollout_ref.actor"
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(
            "ppo_trainer",
            overrides=[
                "+recipe=sft",
                "scale=cpu_tiny",
                f"actor_rollout_ref.model.path={model}",
                f"{actor}.use_dynamic_bsz=false",
                f"{actor}.ppo_micro_batch_size_per_gpu=1",
                "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=false",
                "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1",
            ],
        )
    worker = InterleavedWorker(config=config.actor_rollout_ref, role="actor")
    worker.init_model()
    return worker


def steps(case: Case, model: str) -> dict[str, Callable[[], object]]:
    """One SFT step on the same demonstrations, by which tokens carry loss."""
    import torch

    from mifo_ext.adapters.batches import sft_batch
    from mifo_ext.adapters.demonstrations import DemonstrationTokens

    worker = build_worker(model)
    ids = torch.randint(2, case.vocabulary, (DEMONSTRATIONS, case.tokens)).tolist()
    demonstrations = [
        DemonstrationTokens(row[:PROMPT_TOKENS], row[PROMPT_TOKENS:], False) for row in ids
    ]
    batch = pickle.dumps(
        sft_batch(demonstrations, mini_batch_size=DEMONSTRATIONS, epochs=1, ranks=1, seed=0)
    )
    sft = worker.settings.sft

    def step(tokens: str) -> None:
        chosen = replace(sft, tokens=tokens, fraction=FRACTIONS[tokens])
        worker.settings = replace(worker.settings, sft=chosen)
        worker.sft_step(pickle.loads(batch))

    return {tokens: lambda tokens=tokens: step(tokens) for tokens in FRACTIONS}


def seconds_of(case: Case, model: str, repeats: int) -> dict[str, list[float]]:
    """Both alternatives in turns, in one process."""
    return interleaved(steps(case, model), repeats)


def memory_of(case: Case, model: str, tokens: str) -> int:
    """How far one alternative's memory rises in a step, the optimizer's moments being there."""
    step = steps(case, model)[tokens]
    step()
    return peak_rise_bytes(step)


def measured(case: Case, repeats: int) -> dict[str, object]:
    """A case's row."""
    with tempfile.TemporaryDirectory() as model:
        write_model(case, Path(model))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            seconds = fresh.submit(seconds_of, case, model, repeats).result()
        peaks = {t: in_tidy_process(memory_of, case, model, t) for t in FRACTIONS}
    return {
        **case._asdict(),
        **{f"seconds_{tokens}": statistics.median(taken) for tokens, taken in seconds.items()},
        "time_ratio": ratio(seconds["high_entropy"], seconds["all"]),
        "time_ratios": [a / b for a, b in zip(*seconds.values(), strict=True)],
        **{f"peak_bytes_{tokens}": peak for tokens, peak in peaks.items()},
        "memory_ratio": peaks["high_entropy"] / peaks["all"],
    }


def shown(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table("vocabulary", "tokens")
    for name in ("s, all", "chosen", "ratio", "MiB, all", "chosen", "ratio", "s grow", "MiB grow"):
        table.add_column(name)
    for row in rows:
        shortest = next(one for one in rows if one["vocabulary"] == row["vocabulary"])
        chosen_s, chosen_bytes = "seconds_high_entropy", "peak_bytes_high_entropy"
        table.add_row(
            *(str(row[key]) for key in ("vocabulary", "tokens")),
            f"{row['seconds_all']:.2f}",
            f"{row[chosen_s]:.2f}",
            f"{row['time_ratio']:.3f}",
            f"{row['peak_bytes_all'] / 2**20:.0f}",
            f"{row[chosen_bytes] / 2**20:.0f}",
            f"{row['memory_ratio']:.3f}",
            f"{row[chosen_s] / shortest[chosen_s]:.1f}",
            f"{row[chosen_bytes] / shortest[chosen_bytes]:.1f}",
        )
    return table


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model, three rounds")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    repeats = 3 if arguments.quick else arguments.repeats
    rows = [measured(case, repeats) for case in (QUICK if arguments.quick else CASES)]
    show("sft_phase", [shown(rows)], rows, file=arguments.json)


if __name__ == "__main__":
    main()
