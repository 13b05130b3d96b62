"""The torture suite: processes killed at any moment, and files mutated, by the thousand."""
