#!/usr/bin/env bash
# One training run in its own folder: train.sh RUN OVERRIDES...
#
# Runs `python -m verl.trainer.main_ppo OVERRIDES...` with the environment's Python (VENV, default
# .venv). A run that was interrupted goes on from its last checkpoint, one that is complete is left
# alone, and a folder that holds a run with other settings is refused, never mixed.
set -euo pipefail
cd "$(dirname "$0")/.."

run=$1
shift
command=(python -m verl.trainer.main_ppo "$@" "trainer.default_local_dir=$run")
line=${command[*]@Q}

mkdir -p "$run"
if [ -e "$run/command.txt" ] && [ "$(cat "$run/command.txt")" != "$line" ]; then
    printf '%s\n' "$run must be empty or hold a run of this command, but holds one of another:" \
        "    there: $(cat "$run/command.txt")" "    now:   $line" \
        "Remove it (rm -r $run) or choose another folder (RUN=…, RUNS=…)." >&2
    exit 1
fi
echo "$line" >"$run/command.txt"

if [ -e "$run/complete" ]; then
    echo "$run is trained already; to train it anew: rm -r $run"
    exit 0
fi
echo "\$ ${command[*]}"
PATH="$(realpath "${VENV:-.venv}")/bin:$PATH" "${command[@]}"
touch "$run/complete"
