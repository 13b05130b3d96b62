"""The run folder: atomic saves, digests, checkpoints, the record, the lock.

    disk        how a path is named to a person, how a file is read
    atomic      files and folders that are whole or absent
    sealed      JSON with a digest of itself inside
    manifest    the digests of the files of one folder
    header      what a safetensors header may say
    weights     tensors in a safetensors file that notices any flipped bit
    checkpoint  checkpoints/step-N: save, load, prune
    publish     the best weights in the Hugging Face layout
    record      scriven.json and its bounds
    folder      finding a run, claiming an output folder
    lock        one process per run folder
    huggingface what `from_pretrained` wants to find in it
    load        a run folder back as a model

Only the last two know models; nothing knows training. Nothing here runs code from a run folder.
"""
