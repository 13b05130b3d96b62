"""One task = one file: what is asked of a backbone, its head and its loss."""
