"""SFT + RL post-training recipes on released verl: the method, and thin adapters."""
