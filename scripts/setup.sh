#!/usr/bin/env bash
# Sets up .venv with the pinned packages of requirements/ and this project, for a machine without an
# accelerator. A second run is instant; an interrupted one goes on where it stopped.
#
#   VENV    where the environment lies      (default .venv)
#   PYTHON  the Python 3.11 to make it from (default: the first one found)
#   CPU=1   set up the CPU packages although the machine has an accelerator
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
# Also in the stamp: an editable install points at this folder.
root=$PWD
started=$SECONDS

fail() {
    printf 'make setup: %s\n' "$1" >&2
    shift
    [ $# = 0 ] || printf '    %s\n' "$@" >&2
    exit 1
}

has_accelerator() {
    compgen -G '/dev/nvidia[0-9]*' >/dev/null || compgen -G '/dev/davinci[0-9]*' >/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 must be there (the pinned packages are resolved for it), but ${PYTHON:-python3.11} is not one." \
        "Install it (for example: apt-get install python3.11 python3.11-venv, or pyenv install 3.11)," \
        "or name one: make setup PYTHON=/path/to/python3.11"
}

make_environment() {
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
    local python
    python=$(find_python)
    rm -rf "$VENV"
    echo "environment: $VENV, from $("$python" --version)"
    "$python" -m venv "$VENV" || fail "$python -m venv failed (see above)." \
        "On Debian and Ubuntu its package python3.11-venv may be missing: apt-get install python3.11-venv"
}

# Turns pip's output into one progress line; the whole output stays in the log.
progress() {
    local what=$1 total=$2 done=0 word rest
    while read -r word rest; do
        case $word in
            Collecting | Processing | Obtaining | Requirement) done=$((done + 1)) ;;
            Installing) rest="unpacking, about a minute" ;;
            *) continue ;;
        esac
        if [ -t 1 ]; then
            printf '\r\033[K%s: %d of %d  %.40s' "$what" "$done" "$total" "$rest"
        elif [ "$word" = Installing ] || [ $((done % 50)) = 0 ]; then
            echo "$what: $done of $total"
        fi
    done
    if [ -t 1 ]; then printf '\r\033[K'; fi
}

# pip_install WHAT COUNT ARGUMENTS...: quiet but for the progress line; what went wrong is shown.
pip_install() {
    local what=$1 total=$2
    shift 2
    "$VENV/bin/python" -m pip install --no-deps --use-pep517 --disable-pip-version-check --progress-bar off "$@" \
        2>"$VENV/setup-errors.log" | tee -a "$VENV/setup.log" | progress "$what" "$total"
}

show_errors() {
    grep -v '^WARNING' "$VENV/setup-errors.log" >&2 || true
    fail "pip could not install $1 (above; all of pip's output: $VENV/setup.log)." "Mend it and run make setup again: it goes on from here."
}

install_torch() {
    local pin plain
    pin=$(grep '^torch==' requirements/torch-cpu.txt)
    plain=${pin%+cpu}
    if [ -z "$("$VENV/bin/python" scripts/broken_packages.py requirements/torch-cpu.txt)" ]; then return; fi
    echo "torch: $pin"
    if ! pip_install torch 1 "$pin"; then
        # uv knows where PyTorch keeps its CPU builds.
        echo "torch: pip is not configured for a CPU build here, asking uv"
        pip_install uv 1 uv==0.13.9 || show_errors uv
        "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --torch-backend=cpu --no-deps "$plain" ||
            fail "the CPU build of $plain must be reachable, but neither pip nor uv found it (above)." \
                "Install it by hand, as PyTorch's installation page says for Linux, pip, CPU, into $VENV," \
                "then run make setup again."
    fi
}

install_packages() {
    local missing
    # Without its record pip can neither use nor replace a package: it was stopped in the middle of it.
    find "$VENV"/lib/python*/site-packages -maxdepth 1 -name '*.dist-info' ! -exec test -e {}/RECORD \; -exec rm -r {} +
    # First of all, so that packages without a wheel are built with the pinned setuptools.
    missing=$("$VENV/bin/python" scripts/broken_packages.py requirements/cpu.txt requirements/dev.txt)
    if [ -n "$missing" ]; then
        grep '^setuptools==' requirements/cpu.txt >"$VENV/missing.txt"
        pip_install setuptools 1 -r "$VENV/missing.txt" || show_errors setuptools
        echo "$missing" >"$VENV/missing.txt"
        # --force-reinstall: a package that was unpacked in part is "installed" to pip.
        pip_install packages "$(wc -l <"$VENV/missing.txt")" --no-build-isolation --force-reinstall -r "$VENV/missing.txt" ||
            show_errors "the packages of requirements/"
        missing=$("$VENV/bin/python" scripts/broken_packages.py requirements/cpu.txt requirements/dev.txt)
        [ -z "$missing" ] || fail "these packages are still not whole: ${missing//$'\n'/, }. See $VENV/setup.log."
    fi
    pip_install mifo-ext 1 --no-build-isolation -e . || show_errors "this project"
}

check_torch() {
    local torchless
    for torchless in torchvision torchaudio torchcodec; do
        if "$VENV/bin/python" -m pip show -q "$torchless" 2>/dev/null; then
            fail "$torchless must not be installed here (its CUDA build breaks transformers beside a CPU torch), but is." \
                "Remove it: $VENV/bin/python -m pip uninstall $torchless"
        fi
    done
    [ "$("$VENV/bin/python" -c 'import torch; print(torch.version.cuda)')" = None ] ||
        fail "torch must be a CPU build, but the one in $VENV is not." "Remove $VENV and run make setup again."
}

set_up() {
    echo "Setting up $VENV: about 2 minutes and 4 GB of disk the first time."
    make_environment
    : >"$VENV/setup.log"
    install_torch
    install_packages
    check_torch
    # Compiled now, rather than in the first run that holds something.
    "$VENV/bin/python" -c "import mifo_ext.loops"
    echo "$1" >"$VENV/.set-up"
    echo "Ready in $((SECONDS - started)) s. The environment: $VENV"
}

wanted=$( (echo "$root" && cat requirements/*.txt pyproject.toml scripts/setup.sh) | sha256sum | cut -d' ' -f1)
[ "$(cat "$VENV/.set-up" 2>/dev/null)" != "$wanted" ] || exit 0

[ "$(uname -sm)" = "Linux x86_64" ] ||
    fail "this machine must run Linux on x86_64 (vLLM's CPU build and the pins are for that), but is $(uname -sm)."
if [ "${CPU:-}" != 1 ] && has_accelerator; then
    fail "this machine has an accelerator; make setup is for machines without one. Install beside verl's own set:" \
        "  pip install 'verl[vllm]==0.9.1' && pip install -e ." \
        "then: mifo doctor. (CPU=1 make setup sets up the CPU packages all the same.)"
fi
# One set-up at a time; the lock goes with the process, however it ends.
exec 9<requirements/cpu.txt
flock -n 9 || { echo "Another make setup is at work; waiting for it." && flock 9; }
[ "$(cat "$VENV/.set-up" 2>/dev/null)" != "$wanted" ] || exit 0
set_up "$wanted"
