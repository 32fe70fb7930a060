"""The data: disjoint splits in the schema of LUFFY's users, one parquet file each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

from mifo_ext.world.problems import SKILLS, Problem, draw_distinct

HELD_OUT, VALIDATION, TRAIN = "heldout", "validation", "train"
SPLITS = (HELD_OUT, VALIDATION, TRAIN)


@dataclass(frozen=True)
class Sizes:
    """How many questions each split holds.

    Attributes:
        train: training questions for each skill, spread evenly over its levels.
        validation: validation questions for each skill and level.
        heldout: held-out questions for each skill and level.
    """

    train: Mapping[str, int] = field(
        default_factory=lambda: {"sum": 1024, "product": 384, "code": 600}
    )
    validation: int = 32
    heldout: int = 80


def draw_splits(sizes: Sizes, *, seed: int) -> dict[str, list[Problem]]:
    """Draw all questions, each at most once over all splits.

    Args:
        sizes: how many questions each split holds.
        seed: the questions depend on nothing else.

    Returns:
        Shuffled problems by split.
    """
    random = Random(seed)
    splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
    for name, skill in SKILLS.items():
        for level in skill.asked:
            train = sizes.train[name] // len(skill.asked)
            counts = {HELD_OUT: sizes.heldout, VALIDATION: sizes.validation, TRAIN: train}
            drawn = iter(draw_distinct(random, name, level, sum(counts.values())))
            for split, count in counts.items():
                splits[split].extend(next(drawn) for _ in range(count))
    for problems in splits.values():
        random.shuffle(problems)
    return splits


def row(problem: Problem, *, index: int, split: str) -> dict[str, Any]:
    """One problem in LUFFY's schema."""
    return {
        "data_source": f"world/{problem.skill}/{problem.level}",
        "prompt": [{"role": "user", "content": problem.question}],
        "target": [{"role": "assistant", "content": problem.demonstration}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": problem.answer},
        "extra_info": {
            "index": index,
            "split": split,
            "skill": problem.skill,
            "level": problem.level,
        },
    }


def write_split(problems: list[Problem], path: Path, *, split: str) -> None:
    """Write one split as parquet; `extra_info.index` counts from 0 within it."""
    rows = [row(problem, index=index, split=split) for index, problem in enumerate(problems)]
    parquet.write_table(arrow.Table.from_pylist(rows), path)
