"""The optimizer of all programs: nanoGPT's settings for characters, at a constant learning rate."""

RATE = 1e-3
BETAS = (0.9, 0.99)
EPS = 1e-8
DECAY = 0.1
CLIP = 1.0
