#!/usr/bin/env bash
# One training run in its own folder: train.sh RUN OVERRIDES...
#
# Runs `python -m verl.trainer.main_ppo OVERRIDES...` with the environment's Python (VENV, default
# .venv), its output in RUN/log.txt and `mifo watch` in front; VERBOSE=1 shows the output itself. A
# run that was interrupted goes on from its last checkpoint, one that is complete is left alone, and
# a folder that holds a run with other settings is refused, never mixed.
#
# Ctrl-C ends the run; SIGTERM lets it save first. The exit status is the run's.
set -euo pipefail
cd "$(dirname "$0")/.."

run=$1
shift
command=(python -m verl.trainer.main_ppo "$@" "trainer.default_local_dir=$run")
line=${command[*]@Q}
log=$run/log.txt

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
export PATH="$(realpath "${VENV:-.venv}")/bin:$PATH"
echo "\$ ${command[*]}"
printf '\n$ %s\n' "${command[*]}" >>"$log"
already=$(stat -c %s "$log")

# In a session of its own, the run hears Ctrl-C once, from here. What bash starts with & ignores
# SIGINT, which env puts right. VERBOSE is ours, but vLLM reads it, too, and only as a number.
PYTHONUNBUFFERED=1 setsid env -u VERBOSE --default-signal=INT,QUIT "${command[@]}" >>"$log" 2>&1 &
training=$!
for signal in INT TERM HUP; do
    # shellcheck disable=SC2064
    trap "kill -$signal $training 2>/dev/null || true" "$signal"
done

if [ "${VERBOSE:-}" = 1 ]; then
    tail -c "+$((already + 1))" -f "--pid=$training" "$log" &
else
    mifo watch "$run" --log "$log" --pid "$training" &
fi
watching=$!

# A signal ends `wait` early; the status of a process that has ended stays to be asked for.
wait_for() {
    local status=0
    while wait "$1" 2>/dev/null || status=$?; kill -0 "$1" 2>/dev/null; do status=0; done
    wait "$1" 2>/dev/null || status=$?
    return "$status"
}
status=0
wait_for "$training" || status=$?
wait_for "$watching" || true

if [ "$status" != 0 ]; then
    [ "$status" != 137 ] || echo "It was killed (SIGKILL), perhaps because memory ran out." >&2
    echo "The run ended with exit status $status. Its output: $log" >&2
    exit "$status"
fi
# A run that was asked to stop ends well, too, but is not complete.
if ! tail -c "+$((already + 1))" "$log" | grep -q 'Stopped on request after step'; then
    touch "$run/complete"
fi
