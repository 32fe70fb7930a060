"""One vLLM engine as a sampler: a stream of requests in, samples out as they finish.

vLLM's own `generate` returns when all is done; a crash would lose everything that was finished. So
its engine is stepped here, and each response is handed over in the step that ends it.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mifo_ext.eval.record import Request, Sample
from mifo_ext.eval.sampler import SamplerError, finished

LOOKS_EVERY_S = 0.5
"""Seconds between two looks at whether the engine's process is alive."""


@dataclass(frozen=True)
class EngineSettings:
    """How a model is served.

    Attributes:
        model: its Hugging Face folder.
        context: most tokens of a prompt with its response.
        tensor_parallel: devices that share one copy of the model.
        dtype: of weights and activations; `auto` takes the model's own.
        memory_share: of each device's memory, in (0, 1].
        at_once: responses that grow together.
        seed: of the engine; every request has its own besides.
        log: file for what the engine's processes say; None lets them speak here.
        trust_remote_code: run Python that lies beside the model.
    """

    model: Path
    context: int
    tensor_parallel: int = 1
    dtype: str = "auto"
    memory_share: float = 0.9
    at_once: int = 256
    seed: int = 0
    log: Path | None = None
    trust_remote_code: bool = False


class VllmSampler:
    """One engine; it owns a process and, on a device, most of its memory."""

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model.

        Raises:
            SamplerError: when vLLM cannot serve it.
        """
        engine_class, arguments = _engine_arguments(settings)
        self._settings = settings
        try:
            with _children_speak_to(settings.log):
                self._engine: Any = engine_class.from_engine_args(
                    arguments, enable_multiprocessing=True
                )
        except (RuntimeError, ValueError, OSError) as error:
            raise SamplerError(
                f"vLLM must be able to serve the model, but: {_last_line(error)}{self._see_log()}"
            ) from error
        self._closed = threading.Event()
        threading.Thread(target=self._wake_when_dead, daemon=True).start()
        self._growing: dict[str, Request] = {}
        self._names = itertools.count()

    @property
    def room(self) -> int:
        """Requests that can be taken before the engine has as many waiting as growing."""
        return 2 * self._settings.at_once - len(self._growing)

    @property
    def growing(self) -> int:
        """Requests taken and not yet finished."""
        return len(self._growing)

    def draw(self, requests: Iterable[Request]) -> Iterator[list[Sample]]:
        """Yield every sample once, as they finish.

        Raises:
            SamplerError: when the engine dies.
        """
        waiting = iter(requests)
        while True:
            self.take(itertools.islice(waiting, max(self.room, 0)))
            if not self._growing:
                return
            if done := self.step():
                yield done

    def take(self, requests: Iterable[Request]) -> None:
        """Hand requests to the engine.

        Raises:
            SamplerError: when the engine is dead.
        """
        for request in requests:
            name = str(next(self._names))
            prompt = {"prompt_token_ids": prompt_tokens(self._tokenizer, request.prompt)}
            with self._alive():
                self._engine.add_request(name, prompt, self._sampling_params(request))
            self._growing[name] = request

    def step(self) -> list[Sample]:
        """Let every response grow, and return those that ended.

        Raises:
            SamplerError: when the engine dies.
        """
        with self._alive():
            outputs = self._engine.step()
        return [self._sample(output) for output in outputs if output.finished]

    def close(self) -> None:
        """End the engine's process."""
        self._closed.set()
        core = getattr(self._engine, "engine_core", None)
        if core is not None:
            core.shutdown()
        self._growing.clear()

    def _wake_when_dead(self) -> None:
        """Have `step` raise when the engine's process is killed, by the kernel for its memory, say.

        vLLM notices and cleans up, but its client waits for the next output for ever.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        core = self._engine.engine_core
        while not self._closed.wait(LOOKS_EVERY_S):
            if core.resources.engine_dead:
                core.outputs_queue.put(EngineDeadError())
                return

    def _sample(self, output: Any) -> Sample:
        request = self._growing.pop(output.request_id)
        (completion,) = output.outputs
        if completion.finish_reason not in ("stop", "length"):
            raise SamplerError(f"The engine gave a response up ({completion.finish_reason}).")
        return finished(
            request,
            response=completion.text,
            tokens=len(completion.token_ids),
            finish=completion.finish_reason,
        )

    @contextmanager
    def _alive(self) -> Iterator[None]:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            yield
        except (EngineDeadError, EngineGenerateError, RuntimeError) as error:
            raise SamplerError(f"The engine died: {_last_line(error)}{self._see_log()}") from error

    def _see_log(self) -> str:
        return f" What it said is in {self._settings.log}." if self._settings.log else ""

    @property
    def _tokenizer(self) -> Any:
        return self._engine.get_tokenizer()

    def _sampling_params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=request.seed,
            stop=list(sampling.stop),
            # A stop text that is a special token never shows in the text.
            stop_token_ids=_token_ids(self._tokenizer, sampling.stop),
            include_stop_str_in_output=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def prompt_tokens(tokenizer: Any, prompt: str) -> list[int]:
    """Tokens of a prompt, with one beginning-of-text token where the model has one.

    Args:
        tokenizer: of the model.
        prompt: the whole text; a template may have written that token itself.
    """
    beginning = tokenizer.bos_token
    written = bool(beginning) and prompt.startswith(beginning)
    return list(tokenizer.encode(prompt, add_special_tokens=not written))


def _token_ids(tokenizer: Any, texts: Iterable[str]) -> list[int]:
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[text] for text in texts if text in vocabulary]


def _engine_arguments(settings: EngineSettings) -> tuple[Any, Any]:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    on_cpu = device_count() == 0
    if on_cpu:
        _prepare_cpu()
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    return LLMEngine, EngineArgs(
        model=str(settings.model),
        max_model_len=settings.context,
        tensor_parallel_size=settings.tensor_parallel,
        # Inside a Ray actor vLLM would look for workers in Ray.
        distributed_executor_backend="mp" if settings.tensor_parallel > 1 else None,
        # `auto` would round an fp32 model to bfloat16, for which few processors are made.
        dtype="float32" if on_cpu and settings.dtype == "auto" else settings.dtype,
        gpu_memory_utilization=settings.memory_share,
        max_num_seqs=settings.at_once,
        seed=settings.seed,
        trust_remote_code=settings.trust_remote_code,
        # Nothing else can run code when it is read.
        load_format="safetensors",
        use_tqdm_on_load=False,
        # Compiling takes longer than the CPU's whole evaluation of a small model.
        enforce_eager=on_cpu,
        # The CPU build dies when a request with a seed is prefilled in parts: a CPU generator has
        # no offset to be set back. With room for the longest prompt none ever is.
        enable_chunked_prefill=False if on_cpu else None,
        max_num_batched_tokens=max(settings.context, 2048) if on_cpu else None,
        disable_log_stats=True,
    )


def _prepare_cpu() -> None:
    """What vLLM's CPU build wants; settings already made stand."""
    from mifo_ext.platforms.cpu import alias_vllm_version

    alias_vllm_version()
    # Unbound, vLLM takes as many threads as OMP says; bound, it would spin on every core.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


@contextmanager
def _children_speak_to(log: Path | None) -> Iterator[None]:
    """Give processes that start meanwhile a file for their errors, which they keep."""
    if log is None:
        yield
        return
    sys.stderr.flush()
    ours = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def device_count() -> int:
    """Accelerators on this machine; 0 where there are none."""
    import torch

    return torch.cuda.device_count()
