"""A weight-sync socket of its own for every run on a machine.

verl 0.9.1 names the socket, in /tmp, by Ray's job number. Every Ray of its own begins to count at
1, so two runs that were started by themselves on one machine share a name: the later one takes the
socket away, and both wait for their weights for ever.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import wrapt
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer

from mifo_ext.adapters.processes import MARK


def of_this_run(handle: str) -> str:
    """The address with the run's own part in it; unchanged in a process that carries no mark."""
    run = os.environ.get(MARK)
    if run is None:
        return handle
    # Unix allows a socket's path 107 characters.
    return f"{handle}-{hashlib.blake2b(run.encode(), digest_size=6).hexdigest()}"


def _renamed(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def call(zmq_handle: str, *rest: Any, **named: Any) -> Any:
        return wrapped(of_this_run(zmq_handle), *rest, **named)

    return call(*args, **kwargs)


for end in ("BucketedWeightSender", "BucketedWeightReceiver"):
    wrapt.wrap_function_wrapper(bucketed_weight_transfer, f"{end}.__init__", _renamed)
