"""One file per machine, model and data size."""
