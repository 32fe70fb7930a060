"""How uncertain the policy is before each token.

Dimensions:
    N  positions
    V  vocabulary
    c  positions in work at once
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

DEFAULT_CHUNK_BYTES = 64 * 2**20
# A CPU's chunk is read nine times and must stay in its caches; a smaller one than this gains
# nothing more there, and costs a start of all threads per kernel.
_CACHED_BYTES_PER_THREAD = 4 * 2**20
# A row in work is its float32 copy and its probabilities.
_WORKING_BYTES_PER_LOGIT = 8
# exp of this is 0 in float32, and 0 times it is 0, where 0 times -inf would be NaN.
_LOWEST_EXPONENT = -200.0


def token_entropy(
    logits_NV: Float[Tensor, "N V"], *, chunk: int | None = None
) -> Float32[Tensor, " N"]:
    """Measure the entropy of each row of logits, a chunk of rows at a time.

    H = -sum_v p_v log p_v over the whole vocabulary (MIFO, section 3.1), at the temperature the
    logits already carry. No gradient: the entropy chooses tokens, it is not trained on.

    Args:
        logits_NV: logits of any float type; -inf marks an entry that cannot be sampled.
        chunk: rows in work at once. By default as many as fit `DEFAULT_CHUNK_BYTES`, and on a CPU
            its caches; at least 1.

    Returns:
        Entropies in nats, float32, whatever the logits' type, within 2e-5 * (1 + H) of the exact
        value at 152,000 logits. NaN where a row's logits are not a distribution (NaN, +inf, or
        all -inf). The chunk sets the memory, not the result: on a CPU no bit of it, elsewhere to
        within that bound.

    Raises:
        ValueError: if `chunk` is below 1.
    """
    rows, vocabulary = logits_NV.shape
    on_cpu = logits_NV.device.type == "cpu"
    if chunk is None:
        chunk = _default_chunk(vocabulary, on_cpu=on_cpu)
    if chunk < 1:
        raise ValueError(f"`chunk` must be at least 1 row, but is {chunk}.")

    entropy_N = torch.empty(rows, dtype=torch.float32, device=logits_NV.device)
    with torch.no_grad():
        measure = _on_cpu(min(chunk, rows), vocabulary) if on_cpu else _on_accelerator
        for start in range(0, rows, chunk):
            entropy_N[start : start + chunk] = measure(logits_NV[start : start + chunk])
    return entropy_N


def _default_chunk(vocabulary: int, *, on_cpu: bool) -> int:
    limit = DEFAULT_CHUNK_BYTES
    if on_cpu:
        limit = min(limit, _CACHED_BYTES_PER_THREAD * torch.get_num_threads())
    return max(1, limit // max(1, vocabulary * _WORKING_BYTES_PER_LOGIT))


def _on_accelerator(logits_cV: Float[Tensor, "c V"]) -> Float32[Tensor, " c"]:
    """Three kernels, because there each one's way through memory is what takes time."""
    probability_cV = torch.softmax(logits_cV, dim=-1, dtype=torch.float32)
    # entr is -p log p, and 0 where p is 0; in place, so that a chunk is all it takes.
    torch.special.entr(probability_cV, out=probability_cV)
    return probability_cV.sum(-1)


def _on_cpu(rows: int, vocabulary: int) -> Callable[[Tensor], Float32[Tensor, " c"]]:
    """Only vectorised kernels, one of them with exponentials (entr takes logs one by one).

    With m the largest logit, which has probability p_m = 1 / sum_v exp(x_v - m):
    H = -log p_m + sum_v p_v (m - x_v). No term is negative, so none cancels another.
    """
    # Written to by every chunk: pages fresh from the system cost more than the arithmetic.
    work = torch.empty(2, rows, vocabulary, dtype=torch.float32)

    def measure(logits_cV: Float[Tensor, "c V"]) -> Float32[Tensor, " c"]:
        below_cV, probability_cV = work[0, : len(logits_cV)], work[1, : len(logits_cV)]
        if logits_cV.dtype != torch.float32:
            logits_cV = below_cV.copy_(logits_cV)
        torch.softmax(logits_cV, dim=-1, out=probability_cV)
        torch.sub(logits_cV, logits_cV.amax(-1, keepdim=True), out=below_cV)
        below_cV.clamp_(min=_LOWEST_EXPONENT)
        surprise_c = probability_cV.amax(-1).log_().neg_()
        return surprise_c.sub_(_row_sums(probability_cV.mul_(below_cV)))

    return measure


def _row_sums(values_cV: Float32[Tensor, "c V"]) -> Float32[Tensor, " c"]:
    """Add up each row, in the same order however many rows there are."""
    if len(values_cV) == 1:
        # A single sum is cut up over the threads, and adds in another order; two sums are not.
        return values_cV.expand(2, -1).sum(-1)[:1]
    return values_cV.sum(-1)
