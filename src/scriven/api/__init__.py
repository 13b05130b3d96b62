"""What has not found its package yet: `prepare` and `export`."""
