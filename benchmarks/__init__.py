"""What the promises of the documentation cost. ``docs/benchmarks.md`` has dated results."""
