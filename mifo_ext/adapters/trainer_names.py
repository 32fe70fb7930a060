"""Names that the driver and the trainer agree on; imports nothing."""

STOP_FILE = "stop-requested"
"""Its presence in the run's folder asks for a checkpoint and an end after the current step."""
