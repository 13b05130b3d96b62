"""Models of other programs made into run folders.

    folder     what a folder of theirs holds, and which architecture of ours it is
    tensors    their weights, checked against the shapes that architecture needs
    pickled    weights kept as a pickle, handed to a child process
    confined   that child, which may do nothing else
    check      the run beside what transformers makes of the original

`huggingface` is all of it together: one run folder, whole or absent.

Nothing in a folder is believed before it is checked, and nothing in it is run.
"""
