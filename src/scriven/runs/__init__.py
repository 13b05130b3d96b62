"""The run folder: metadata, checkpoints, the published model, the lock.

    folder        finding a run, creating a run folder
    lock          one process per run folder
    metadata      scriven.json and its bounds
    weights       tensors in a safetensors file that notices any flipped bit
    checkpoint    checkpoints/step-N: save, load, prune
    huggingface   the best weights in the Hugging Face layout, as `from_pretrained` expects it
    model_card    README.md, from model_card.md.jinja and usage.py.jinja
    finetune_results   what model card and report say of a fine-tuning
    peft          LoRA adapters in PEFT's format
    load          a run folder as a model

Only the last four know models or tasks; nothing knows training. Nothing here runs code from a run
folder. Digests and atomic writing are in scriven/manifest.py and scriven/files.py.
"""
