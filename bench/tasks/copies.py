"""A task without labels, made of nothing but sentences: which of four is a shortened copy?

Beside a sentence stand itself, with a word or two left out and now and then its halves exchanged,
and three more that were treated alike, but in which a word or two are those of other sentences.
Only who compares words on both sides can tell, which is what pairs of sentences ask for and what
predicting the next token hardly teaches (LOG.md). Training on such a task between pre-training and
fine-tuning: Phang et al. 2018.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

Words = list[str]


def copies(sentences: Sequence[str], rounds: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of context, choices and answer, for each sentence `rounds` of them."""
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
    """Without up to two words; of three sentences one begins with its second half."""
    kept = list(words)
    for _ in range(draw.choice((0, 1, 1, 2))):
        if len(kept) > 4:
            kept.pop(draw.randrange(len(kept)))
    if draw.random() < 0.3 and len(kept) > 6:
        middle = draw.randrange(2, len(kept) - 2)
        kept = kept[middle:] + kept[:middle]
    return kept


def exchanged(words: Words, pool: Words, draw: random.Random) -> Words:
    """With one word, or two, out of the pool."""
    found = list(words)
    for _ in range(draw.choice((1, 1, 2))):
        strangers = (draw.choice(pool) for _ in range(1000))
        place = draw.randrange(len(found))
        found[place] = next((word for word in strangers if word not in words), found[place])
    return found
