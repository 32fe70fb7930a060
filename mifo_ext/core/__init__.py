"""The method as pure functions: torch, jaxtyping and the standard library only."""
