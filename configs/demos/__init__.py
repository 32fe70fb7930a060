"""One file per place that demonstrations come from."""
