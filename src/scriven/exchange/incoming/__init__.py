"""Models of other programs made into run folders.

    folder     what a folder of theirs holds, and which architecture of ours it is
    tensors    their weights, checked against the shapes that architecture needs
    confined   weights out of a pickle, in a child process that may do nothing else
    adopt      all of it together: one run folder, whole or absent

Nothing in a folder is believed before it is checked, and nothing in it is run.
"""
