"""Logs and metrics as a run writes them."""

from mifo_ext.watch_log import ATTEMPT

RUNNER = "\x1b[36m(TaskRunnerV1 pid=7)\x1b[0m "


START = f"""\
{ATTEMPT} +recipe=mifo
mifo: recipe mifo, scale cpu_tiny, run folder runs/mifo
ray init kwargs: {{'num_cpus': 16}}
2026-11-23 00:43:41,495	INFO worker.py:2038 -- Started a local Ray instance.
{RUNNER}Using dataset class: RLHFDataset
{RUNNER}INFO:2026-11-23 00:44:02,167:Total training steps: 4
{RUNNER}INFO:2026-11-23 00:44:47,187:all initialize finished, ready to fit
{RUNNER}Using dataset class: RLHFDataset
{RUNNER}                 Before step 1
{RUNNER}┏━━━━━━┓
{RUNNER}│ fine │
{RUNNER}└──────┘
{RUNNER}WARNING 11-23 00:44:25 [importing.py:65] Triton is not there
"""
