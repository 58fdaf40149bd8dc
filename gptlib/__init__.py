"""gptlib: the small package behind "GPT, Measured"."""

__version__ = "0.1.0"
