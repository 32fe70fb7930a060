"""The only place that imports verl, Ray, TransferQueue or tensordict."""
