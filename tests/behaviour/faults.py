"""Faults that a run meets at chosen moments: loaded into its processes beside the recipe.

`MIFO_TEST_FAULT` names a moment and a step, as in `in_sft:6`. The process that gets there dies by
SIGKILL, once: a file in the run's folder remembers that it happened.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import wrapt

import mifo_ext.adapters.register  # noqa: F401


def strike(moment: str, step: int, root: Path) -> None:
    """Die here if this is the moment."""
    wanted, _, at = os.environ.get("MIFO_TEST_FAULT", "").partition(":")
    mark = root / f"fault-{wanted}"
    if wanted == moment and step >= int(at) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _trainer(module: Any) -> None:
    from mifo_ext.adapters import checkpoints
    from mifo_ext.adapters.method_intervals import Intervals

    trainer = module.InterleavedTrainer

    def after_rollouts(wrapped: Any, self: Any, args: Any, kwargs: Any) -> Any:
        strike("after_rollouts", self.global_steps, self.root)
        return wrapped(*args, **kwargs)

    def before_tracker(wrapped: Any, self: Any, args: Any, kwargs: Any) -> Any:
        path = Path(args[0])
        if path.name == checkpoints.TRACKER:
            strike("before_tracker", int(args[1]), path.parent)
        return wrapped(*args, **kwargs)

    def before_flush(wrapped: Any, self: Any, args: Any, kwargs: Any) -> Any:
        strike("before_flush", self.trainer.global_steps, self.trainer.root)
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(trainer, "_compute_old_log_prob", after_rollouts)
    wrapt.wrap_function_wrapper(Intervals, "_sft_interval", before_flush)
    wrapt.wrap_function_wrapper(checkpoints, "write_atomically", before_tracker)


def _worker(module: Any) -> None:
    def in_sft(wrapped: Any, self: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        if self._sft is not None:
            strike("in_sft", 0, Path(os.environ["MIFO_RUN"]))
        return result

    wrapt.wrap_function_wrapper(module.InterleavedEngine, "forward_backward_batch", in_sft)


wrapt.register_post_import_hook(_trainer, "mifo_ext.adapters.trainer")
wrapt.register_post_import_hook(_worker, "mifo_ext.adapters.engine")
