"""The embedded world: generated problems, worked demonstrations and a tiny schooled model."""
