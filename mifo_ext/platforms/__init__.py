"""Platforms verl does not know, and what follows from the one it finds."""


def default_scale() -> str:
    """The scale of a run that names none: cpu_tiny without an accelerator, else by their number."""
    from verl.plugin.platform import get_platform

    platform = get_platform()
    if platform.device_name == "cpu":
        return "cpu_tiny"
    return "one_gpu" if platform.device_count() <= 1 else "math_7b"
