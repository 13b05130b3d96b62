"""The layers every architecture is built from; each file can be read alone.

Shapes in comments: B batch rows, T positions of the queries, S positions of the keys, C `d_model`,
H query heads, K key/value heads, D `head_dim`, F `d_ff`, V vocabulary. Positions are (T,) where all
rows agree, else (B, T); a negative position is padding.
"""
