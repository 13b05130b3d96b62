"""Trivial baselines: what a task's score is worth is what it has above these.

One baseline = one file, which holds
    TASKS   the tasks that it can do
    fit     (rows of the training part) -> what predicts the answers of other rows

`base.py` says what rows and answers are. Only the training part is ever looked at.
"""
