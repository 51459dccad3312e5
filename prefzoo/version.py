"""The version: `pyproject.toml` and every layer read it here."""

__version__ = "0.1.0"
