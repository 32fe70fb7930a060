"""Several vLLM engines behind one sampler: one Ray actor each, on devices of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from mifo_ext.eval.engine import EngineSettings, VllmSampler
from mifo_ext.eval.record import Request, Sample
from mifo_ext.eval.sampler import SamplerError


class Engine:
    """One engine in a process of its own."""

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model."""
        self._sampler = VllmSampler(settings)

    def work(self, requests: list[Request]) -> list[Sample]:
        """Take requests, and go on until some response ends.

        Returns:
            The samples that ended; none only when nothing is growing.
        """
        self._sampler.take(requests)
        while self._sampler.growing:
            if done := self._sampler.step():
                return done
        return []


class FleetSampler:
    """Hands each engine new requests as its responses end."""

    def __init__(self, settings: EngineSettings, *, engines: int, devices: int) -> None:
        """Start the engines, all at the same time.

        Args:
            settings: the same for each.
            engines: how many.
            devices: accelerators for each; 0 on a machine without.

        Raises:
            SamplerError: when one of them cannot start.
        """
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self._room = 2 * settings.at_once
        # An engine of several devices starts workers of its own, which Ray would have to place.
        actor = ray.remote(num_cpus=1, num_gpus=devices)(Engine)
        self._engines: list[Any] = [actor.remote(settings) for _ in range(engines)]

    def draw(self, requests: Iterable[Request]) -> Iterator[list[Sample]]:
        """Yield every sample once, as they finish.

        Raises:
            SamplerError: when an engine dies.
        """
        waiting = iter(requests)
        at_work: dict[Any, tuple[Any, int]] = {}
        for engine in self._engines:
            self._hand(engine, 0, waiting, at_work)
        while at_work:
            (done, *_), _ = ray.wait(list(at_work), num_returns=1)
            engine, growing = at_work.pop(done)
            try:
                samples: list[Sample] = ray.get(done)
            except (RayError, SamplerError) as error:
                raise SamplerError(
                    f"An engine died: {str(error).strip().splitlines()[-1]}"
                ) from error
            if samples:
                yield samples
            self._hand(engine, growing - len(samples), waiting, at_work)

    def close(self) -> None:
        """End the engines and this process's Ray."""
        for engine in self._engines:
            ray.kill(engine)
        ray.shutdown()

    def _hand(
        self,
        engine: Any,
        growing: int,
        waiting: Iterator[Request],
        at_work: dict[Any, tuple[Any, int]],
    ) -> None:
        new = list(itertools.islice(waiting, self._room - growing))
        if new or growing:
            at_work[engine.work.remote(new)] = (engine, growing + len(new))
