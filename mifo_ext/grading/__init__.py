"""Answer extraction and equivalence, shared by the reward and the evaluation."""
