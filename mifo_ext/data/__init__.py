"""Prompts and demonstrations: preparing and reading training data."""
