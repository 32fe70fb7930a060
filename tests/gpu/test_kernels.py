"""The Triton kernels, by Triton's interpreter: their arithmetic and indices, without a GPU."""

import os
import subprocess
import sys

from tests.support.runs import ROOT

TESTS = ["tests/gpu/kernels.py", "tests/gpu/at_once.py"]


def test_the_kernels_give_what_torch_gives_in_tritons_interpreter() -> None:
    # Triton asks once for a process, when it is first imported, and vLLM imports it elsewhere.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
