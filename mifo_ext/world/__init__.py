"""The embedded world: generated problems, worked demonstrations and a tiny schooled model."""

from mifo_ext.world.builder import World, WorldSettings, build, world_is_ready

__all__ = ["World", "WorldSettings", "build", "world_is_ready"]
