"""Models of other programs, opened as they are.

    base          what a name means: a run, a folder, an adapter, a GGUF file, a model of the hub
    huggingface   a folder with config.json, weights and a tokenizer
    gguf          a GGUF file, as the folder that it was made from
    tensors       weight files, checked against the shapes that the architecture needs
    convert       a folder with pickled weights as one with safetensors
    sandbox       the child process that reads a pickle and can do nothing else

Nothing in a folder is trusted before it is checked, and no code in it is run.
"""
