"""How uncertain the policy is before each token.

Dimensions:
    N  positions
    V  vocabulary
"""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

DEFAULT_CHUNK_BYTES = 64 * 2**20
# A row in work is its float32 copy and its probabilities.
_WORKING_BYTES_PER_LOGIT = 8


def token_entropy(
    logits_NV: Float[Tensor, "N V"], *, chunk: int | None = None
) -> Float32[Tensor, " N"]:
    """Measure the entropy of each row of logits, a chunk of rows at a time.

    H = -sum_v p_v log p_v over the whole vocabulary (MIFO, section 3.1), at the temperature the
    logits already carry. No gradient: the entropy chooses tokens, it is not trained on.

    Args:
        logits_NV: logits of any float type; -inf marks an entry that cannot be sampled.
        chunk: rows in work at once. By default as many as fit `DEFAULT_CHUNK_BYTES`, at least 1.

    Returns:
        Entropies in nats, float32, whatever the logits' type. NaN where a row's logits are not
        a distribution (NaN, +inf, or all -inf). The chunk sets the memory, not the result.

    Raises:
        ValueError: if `chunk` is below 1.
    """
    rows, vocabulary = logits_NV.shape
    if chunk is None:
        chunk = max(1, DEFAULT_CHUNK_BYTES // max(1, vocabulary * _WORKING_BYTES_PER_LOGIT))
    if chunk < 1:
        raise ValueError(f"`chunk` must be at least 1 row, but is {chunk}.")

    entropy_N = torch.empty(rows, dtype=torch.float32, device=logits_NV.device)
    with torch.no_grad():
        for start in range(0, rows, chunk):
            logits_cV = logits_NV[start : start + chunk].to(torch.float32)
            probability_cV = torch.softmax(logits_cV, dim=-1)
            # entr is -p log p, and 0 where p is 0; in place, so that a chunk is all it takes.
            torch.special.entr(probability_cV, out=probability_cV)
            entropy_N[start : start + chunk] = probability_cV.sum(-1)
    return entropy_N
