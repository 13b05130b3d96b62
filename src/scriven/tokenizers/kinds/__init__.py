"""The kinds of tokenizers, one file each: `train(pieces, settings) -> Tokenizer`."""
