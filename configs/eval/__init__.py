"""What is evaluated, and how it is asked: benchmarks, suites and prompt templates."""
