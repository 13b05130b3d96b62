"""Metrics of a task's answers, each with its bootstrap interval: one metric = one file.

A metric's file holds
    SCORES      the kinds of answers that it scores: labels, choices, numbers or texts
    ORDER       its place among the metrics of a table; the first is the main one
    statistic   (truth, predicted) -> Statistic, of arrays that `base.KINDS` has checked

`base.py` finds the files and computes them. No metric needs a model or torch.
"""
