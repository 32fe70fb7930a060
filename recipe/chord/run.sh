#!/usr/bin/env bash
# Trains with recipe chord; further words go to verl, for instance: scale=math_7b seed=1
# The run's folder is runs/chord in the working folder; the same command resumes it.
set -euo pipefail

python -m verl.trainer.main_ppo \
    +recipe=chord \
    "$@"
