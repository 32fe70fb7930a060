"""Names that several processes agree on; imports nothing."""

STOP_FILE = "stop-requested"
"""Its presence in the run's folder asks for a checkpoint and an end after the current step."""

DEMONSTRATION = "demonstration"
"""Key of a trajectory's `extra_fields` that says it is a demonstration."""

DEMONSTRATION_AGENT = "mifo_demonstration"
"""Name of the agent loop that gives out demonstrations; only training questions ask for it."""

DEMONSTRATION_IDS = "mifo_demonstration_ids"
"""Column of a batch with a demonstration's tokens; empty where a question has none."""
