"""Who watches a run: one tracker is one file, found by its name (`--train.trackers NAME`)."""
