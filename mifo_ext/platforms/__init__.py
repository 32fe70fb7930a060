"""Platforms verl does not know."""
