"""What has not found its package yet: `plan`, `prepare` and `export`."""

from .planning import plan

__all__ = ["plan"]
