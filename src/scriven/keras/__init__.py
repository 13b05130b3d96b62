"""`GPT(...).compile(...)`, `.fit(...)`: the same training in the style of Keras."""
