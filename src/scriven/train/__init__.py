"""Training: one loop for every architecture and task, and what it is made of."""
