"""Exports for other programs, each compared with the run in the real program before it counts.

export         `scriven export`: write, check, and only then give the folder its name
base           `ExportTarget`, the base class of a target, and what targets share
parity_check   probes the run and the program alike, and compares their outputs
targets/       one target = one file with a class `Target`
"""
