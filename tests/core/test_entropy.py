"""Entropy per row: right in every float type, the same for every chunk, no more memory than one."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mifo_ext.core import entropy as entropy_module
from mifo_ext.core.entropy import token_entropy

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


BOTH = pytest.mark.parametrize("formula", ["_on_cpu", "_on_accelerator"])


@pytest.fixture
def two_threads() -> Iterator[None]:
    """With one thread no sum is ever cut up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def by_formula(name: str, logits: Tensor) -> Tensor:
    """All rows at once by one of the two formulas, wherever the logits are."""
    if name == "_on_accelerator":
        return entropy_module._on_accelerator(logits)
    return entropy_module._on_cpu(*logits.shape)(logits)


def exact_entropy(logits: Tensor) -> Tensor:
    """In float64; 0 log 0 is 0."""
    log_probability = logits.double().log_softmax(-1)
    return -(log_probability.exp() * log_probability.clamp(min=-1e6)).sum(-1)


def random_logits(rows: int, vocabulary: int, *, seed: int = 0) -> Tensor:
    return 4 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


class LargestNewTensor(TorchDispatchMode):
    """Remembers the largest tensor that an operation made, views aside."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.entries = 0
        self._given = given.untyped_storage().data_ptr()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() != self._given:
                self.entries = max(self.entries, leaf.untyped_storage().nbytes() // 4)
        return result


@pytest.mark.parametrize("dtype", FLOATS)
def test_entropy_in_nats_of_distributions_known_by_hand(dtype: torch.dtype) -> None:
    never = -math.inf
    logits = torch.tensor(
        [
            [0.0, 0.0, 0.0, 0.0],  # four equal choices
            [7.0, 7.0, never, never],  # two, and two that cannot be sampled
            [0.0, 100.0, 0.0, 0.0],  # certain
        ],
        dtype=dtype,
    )

    entropy = token_entropy(logits)

    assert entropy.dtype == torch.float32
    torch.testing.assert_close(entropy, torch.tensor([math.log(4), math.log(2), 0.0]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_entropy_is_computed_in_float32_whatever_the_logits_are(dtype: torch.dtype) -> None:
    logits = random_logits(16, 1000).to(dtype)

    entropy = token_entropy(logits).double()

    torch.testing.assert_close(entropy, exact_entropy(logits), rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_give_the_bits_that_their_float32_copy_gives(
    formula: str, dtype: torch.dtype
) -> None:
    logits = random_logits(16, 1000).to(dtype)

    assert torch.equal(by_formula(formula, logits), by_formula(formula, logits.float()))


@BOTH
@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0, 20.0, 200.0])
@pytest.mark.parametrize("shift", [0.0, 30.0, -3000.0])
def test_the_error_stays_in_its_bound_at_a_real_vocabulary(
    formula: str, scale: float, shift: float
) -> None:
    logits = scale / 4 * random_logits(2, 152_000) + shift
    logits[:, ::3] = -math.inf

    error = (by_formula(formula, logits).double() - exact_entropy(logits)).abs()

    assert (error / (1 + exact_entropy(logits))).max() < 2e-5


@BOTH
def test_both_formulas_keep_to_what_is_no_distribution_and_what_is_certain(formula: str) -> None:
    never, wrong = -math.inf, math.nan
    logits = torch.tensor(
        [[0.0, wrong], [never, never], [math.inf, 0.0], [never, 3e38], [-3e38, 3e38], [5.0, never]]
    )

    entropy = by_formula(formula, logits)

    assert entropy.isnan().tolist() == [True, True, True, False, False, False]
    assert entropy[3:].tolist() == [0.0, 0.0, 0.0]


@given(st.integers(0, 12), st.integers(1, 40), st.integers(1, 15), st.integers(0, 1000))
def test_the_chunk_never_changes_the_entropy(
    rows: int, vocabulary: int, chunk: int, seed: int
) -> None:
    logits = random_logits(rows, vocabulary, seed=seed)

    in_chunks = token_entropy(logits, chunk=chunk)

    assert torch.equal(in_chunks, token_entropy(logits))
    assert in_chunks.shape == (rows,)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("chunk", [1, 2, 3, 4])
def test_the_chunk_never_changes_a_bit_also_where_rows_are_cut_up_over_threads(chunk: int) -> None:
    # Threads begin to share a row's sum at 32,768 entries. Chunks of 2 and 4 leave a last row.
    logits = random_logits(5, 100_000)

    assert torch.equal(token_entropy(logits, chunk=chunk), token_entropy(logits, chunk=5))


@given(st.floats(-50, 50), st.integers(0, 1000))
def test_a_shift_of_all_logits_changes_nothing(shift: float, seed: int) -> None:
    logits = random_logits(3, 8, seed=seed)

    torch.testing.assert_close(
        token_entropy(logits + shift), token_entropy(logits), rtol=1e-3, atol=1e-4
    )


def test_extra_memory_is_one_chunk_of_rows() -> None:
    logits = random_logits(64, 50).to(torch.bfloat16)

    with LargestNewTensor(logits) as largest:
        token_entropy(logits, chunk=4)

    # A row in work takes two rows of float32, whatever the number of chunks.
    assert largest.entries == 2 * 4 * 50


def test_the_default_chunk_fits_the_byte_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy_module, "DEFAULT_CHUNK_BYTES", 4000)
    logits = random_logits(64, 50).to(torch.bfloat16)

    with LargestNewTensor(logits) as largest:
        token_entropy(logits)

    # A row in work takes 2 * 4 * 50 = 400 bytes: ten rows in 4000.
    assert largest.entries == 2 * 10 * 50


def test_a_vocabulary_beyond_the_budget_goes_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy_module, "DEFAULT_CHUNK_BYTES", 1)

    torch.testing.assert_close(token_entropy(torch.zeros(3, 2)), torch.full((3,), math.log(2)))


def test_the_logits_are_left_alone_and_the_entropy_takes_no_gradient() -> None:
    logits = random_logits(3, 5).requires_grad_()
    before = logits.detach().clone()

    entropy = token_entropy(logits, chunk=2)

    assert not entropy.requires_grad
    assert torch.equal(logits, before)


def test_a_row_that_is_no_distribution_gives_nan_and_harms_no_other() -> None:
    logits = torch.tensor([[0.0, math.nan], [0.0, 0.0], [-math.inf, -math.inf], [math.inf, 0.0]])

    entropy = token_entropy(logits)

    assert entropy.isnan().tolist() == [True, False, True, True]
    assert entropy[1].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_without_rows_is_refused(chunk: int) -> None:
    with pytest.raises(ValueError, match=f"`chunk` must be at least 1 row, but is {chunk}"):
        token_entropy(torch.zeros(2, 2), chunk=chunk)
