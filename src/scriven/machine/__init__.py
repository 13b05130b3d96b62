"""This machine: what it offers (`doctor`) and how fast it is (`benchmark`)."""
