#!/usr/bin/env bash
# Trains with recipe sft_then_rl; further words go to verl, for instance: scale=math_7b seed=1
# The run's folder is runs/sft_then_rl in the working folder; the same command resumes it.
set -euo pipefail

python -m verl.trainer.main_ppo \
    +recipe=sft_then_rl \
    "$@"
