"""The process that runs math-verify, so that it can be killed.

Started as `python -m mifo_ext.grading.library_worker`. It imports the libraries once and then
forks one short-lived child per question: each comparison begins in a clean process, with a limit
on memory, and ends at its deadline whatever it is doing, C code included.

One JSON object per line on stdin, one per line on stdout.
"""

import json
import os
import resource
import select
import signal
import sys
import time

MEMORY_BYTES = 2 * 1024**3


def _equal(gold: str, answer: str) -> str:
    """Our own use of math-verify: two short LaTeX strings, nothing to extract."""
    from math_verify import LatexExtractionConfig, parse, verify

    sides = []
    for text in (gold, answer):
        parsed = parse(
            f"${text}$",
            extraction_config=[LatexExtractionConfig(boxed_match_priority=-1)],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
        )
        # A number taken out of a formula that did not parse is not the formula.
        if not parsed or (_has_letters(text) and getattr(parsed[0], "is_number", False)):
            return "unreadable"
        sides.append(parsed)
    same = verify(
        sides[0],
        sides[1],
        float_rounding=12,
        numeric_precision=50,
        allow_set_relation_comp=True,
        timeout_seconds=None,
    )
    return "same" if same else "different"


def _has_letters(text: str) -> bool:
    import re

    plain = re.sub(r"\\(?:text\s*\{[^{}]*\}|[A-Za-z]+)", " ", text)
    return re.search(r"[A-Za-df-hj-z]", plain) is not None


def _as_relift(gold: str, response: str) -> str:
    """math-verify with its defaults, the way LUFFY and ReLIFT call it on a whole response."""
    from math_verify import parse, verify

    golds, answers = parse(f"${gold}$"), parse(response)
    if not golds:
        return "unreadable gold"
    if not answers:
        return "no answer"
    return "same" if verify(golds, answers) else "different"


_TASKS = {"equal": _equal, "as_relift": _as_relift}


def _child(write: int, request: dict[str, str], timeout_s: float) -> None:
    # Processor time, so that a busy machine changes no verdict; the kernel ends the process.
    signal.setitimer(signal.ITIMER_PROF, timeout_s)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        result = _TASKS[request["task"]](request["gold"], request["answer"])
    except MemoryError:
        result = "out of memory"
    except Exception as error:
        # The child's one job is to report: whatever a library raises is the answer.
        result = f"raised {type(error).__name__}"
    os.write(write, result.encode())


def _run(request: dict[str, str], timeout_s: float) -> str:
    """The child's word; "timeout" when it used its processor time or twice that of wall time."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            _child(write, request, timeout_s)
        finally:
            os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], 2 * timeout_s)
        result = os.read(read, 200).decode() if ready else "timeout"
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not result and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        return "timeout"
    return result or "died"


def main() -> None:
    """Answer questions until stdin closes."""
    # Before the first fork, so that the children share the imports and the parser's tables.
    _equal(r"\frac{x^2+1}{2}, \left[0, \sqrt{2}\right)", r"\{x < \sin(y_1)\}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        result = _run(request, float(request["timeout_s"]))
        sys.stdout.write(
            json.dumps({"result": result, "seconds": time.perf_counter() - started}) + "\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
