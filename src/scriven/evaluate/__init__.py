"""Honest numbers: loss over every validation token, and what counting alone would reach."""
