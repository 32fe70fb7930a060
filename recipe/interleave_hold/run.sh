#!/usr/bin/env bash
# Trains with recipe interleave_hold; further words go to verl, for instance: scale=math_7b seed=1
# The run's folder is runs/interleave_hold in the working folder; the same command resumes it.
set -euo pipefail

python -m verl.trainer.main_ppo \
    +recipe=interleave_hold \
    "$@"
