"""Imports of Hugging Face models as run folders.

    huggingface   `scriven import`: checks the folder, and writes a run folder, whole or absent
    tensors       the weight files, checked against the shapes that the architecture needs
    sandbox       pickled weights, converted by a child process that can do nothing else
    parity        compares the run with what transformers computes from the original

Nothing in a folder is trusted before it is checked, and no code in it is run.
"""
