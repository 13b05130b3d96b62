"""Corpora larger than memory: sources to a folder of shards, in parallel, resumable.

`plan` divides the sources into jobs, `piece` does one and leaves a folder of ids that is whole or
absent, `crew` spreads jobs over processes, `build` holds it together, `mix` weighs the sources.
What comes out is the same to the byte however many processes worked, and however often they died.
"""
