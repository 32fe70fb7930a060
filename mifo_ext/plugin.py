"""The `verl.plugins` entry point: loaded by every `import verl`, in every process.

It makes recipes known to Hydra and the CPU known to verl, and imports nothing heavy. verl hides
errors of its plugins; a run that asks for a recipe must not go on as plain PPO, so such an error
ends it (`SystemExit` is not hidden).
"""

from __future__ import annotations

from mifo_ext.command_line import recipe_asked_for

try:
    from mifo_ext import hydra_plugin
    from mifo_ext.platforms import cpu

    cpu.register()
    hydra_plugin.register()
except Exception as error:
    if recipe_asked_for():
        raise SystemExit(
            f"mifo: the recipe layer could not be loaded ({type(error).__name__}: {error}), so the "
            "recipe would be ignored and plain PPO trained. Run `mifo doctor` to see what is wrong."
        ) from error
    raise
