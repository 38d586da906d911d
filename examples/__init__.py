"""Whole programs. Run one from the repository: ``python -m examples.terminal_agent``."""
