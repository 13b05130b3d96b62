"""Trivial baselines, which show what a fine-tuned model's score is worth: one baseline = one file.

A baseline's file holds
    TASKS   the tasks it can do, such as ("classify",)
    fit     (rows of the training part) -> a `base.FittedBaseline`, which answers other rows

`base.py` finds the files and says what rows and answers are. Only the training part is read.
"""
