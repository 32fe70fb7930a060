"""Where in memory a model's pieces begin, for loops and kernels that go through all of them.

Dimensions:
    Q  pieces
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mifo_ext.core.pieces import Pieces


def of_entries(tensors: Sequence[Tensor], pieces: Pieces) -> np.ndarray:
    """Where each piece begins, in bytes (Q).

    Args:
        tensors: flat float32 tensors in which the pieces lie; they must live as long as anybody
            goes to an address.
        pieces: the pieces.

    Raises:
        ValueError: if entries of a tensor are not float32 and side by side.
    """
    for number, tensor in enumerate(tensors):
        if tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(
                f"Tensors must be float32 and contiguous to be gone through at once, but tensor "
                f"{number} is {tensor.dtype} with strides {tensor.stride()}. Pass `.contiguous()` "
                "of float32 masters."
            )
    # numpy, because torch takes several times as long for so few numbers.
    first = np.array([tensor.data_ptr() for tensor in tensors], dtype=np.int64)
    begins: np.ndarray = first[pieces.tensor.numpy()] + 4 * pieces.first.numpy()
    return begins


def of_bits(packed_P: Tensor | None, pieces: Pieces) -> np.ndarray:
    """Where each piece's bits begin in a packed mask (Q); 0 where there is none."""
    place = pieces.place.numpy()
    return np.zeros_like(place) if packed_P is None else place // 8 + packed_P.data_ptr()
