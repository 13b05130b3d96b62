"""One architecture = one file: a frozen Config, a block, a Backbone and a NAMES table."""
