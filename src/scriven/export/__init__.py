"""Models for other programs: one target = one file, checked in the real program before it counts.

A target's file holds
    DTYPES      what numbers it can be written in, the default first
    BOUNDS      by dtype: how far logits may be off, as a share of their spread; absent: any
    WRITES      packages needed to write it; CHECKS: those needed to run it; EXTRA: our extra
    RUNTIME     the program, as people call it; LIBRARY: as the Hugging Face hub calls it
    refuse      why this run cannot be written so, or None
    write       the files, into an empty folder
    answer      what the program itself makes of these files (in a process of its own)
    usage       Markdown: how to load it there

`shared/` asks the questions and compares the answers; it knows no format.
"""
