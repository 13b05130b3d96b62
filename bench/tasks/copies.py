"""A self-supervised multiple-choice task from sentences: which of four is a shortened copy?

The right choice is the sentence with up to two words left out, sometimes with its halves exchanged;
the three wrong ones are treated alike, but have one or two words of other sentences. The task needs
a comparison of the words of both sides, which sentence pairs need as well and language modelling
hardly teaches (LOG.md). Training on such a task between pre-training and fine-tuning is that of
Phang et al. 2018.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

Words = list[str]


def copies(sentences: Sequence[str], rounds: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of context, choices and answer, `rounds` for each sentence."""
    draw = random.Random(seed)
    pool = [word for sentence in sentences for word in sentence.split()]
    for _ in range(rounds):
        for sentence in draw.sample(sentences, len(sentences)):
            words = sentence.split()
            right = " ".join(shortened(words, draw))
            choices = {right}
            while len(choices) < 4:
                choices.add(" ".join(exchanged(shortened(words, draw), pool, draw)))
            mixed = draw.sample(sorted(choices), 4)
            yield {"context": sentence, "choices": mixed, "answer": mixed.index(right)}


def shortened(words: Words, draw: random.Random) -> Words:
    """Leaves out up to two words, and exchanges the halves of three sentences in ten."""
    kept = list(words)
    for _ in range(draw.choice((0, 1, 1, 2))):
        if len(kept) > 4:
            kept.pop(draw.randrange(len(kept)))
    if draw.random() < 0.3 and len(kept) > 6:
        middle = draw.randrange(2, len(kept) - 2)
        kept = kept[middle:] + kept[:middle]
    return kept


def exchanged(words: Words, pool: Words, draw: random.Random) -> Words:
    """Replaces one or two words by others from the pool."""
    changed = list(words)
    for _ in range(draw.choice((1, 1, 2))):
        candidates = (draw.choice(pool) for _ in range(1000))
        place = draw.randrange(len(changed))
        changed[place] = next((word for word in candidates if word not in words), changed[place])
    return changed
