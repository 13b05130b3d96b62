"""The pieces every architecture is built from; each file can be read alone.

Shapes in comments: B rows, T positions, S source positions, W width, H heads, K key/value heads,
D width of a head, V vocabulary. `at` holds positions: (T,) when all rows agree, else (B, T);
a negative position is padding.
"""
