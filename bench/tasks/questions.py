"""A set of questions with answers in a context, in the JSON of SQuAD: made of the plays and of the
sentences of SICK by templates, the same for the same seed.

python bench/tasks/questions.py DATA OUT [--seed 0]

DATA holds sick/SICK.txt. Writes OUT/train.json, OUT/dev.json, OUT/test.json and OUT/text.txt, a
text to pre-train on (the contexts of the training part). The parts share no play and no sentence.
"""

import argparse
import csv
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scriven.data.corpora.shakespeare import Play, Speech, plays

SPEECHES = (4, 8)  # speeches of a context
LONGEST = 22  # words of a speech in a context
QUOTED = (3, 7)  # words of a quotation
SENTENCES = 6  # sentences of a context of SICK
PER_PLAY, PER_SENTENCE = 2, 2  # questions of a context

WHO = ["Who says {q}?", "Which character speaks the words {q}?", "Whose words are {q}?",
       "By whom is {q} said?"]  # fmt: skip
NEXT = ["Who speaks next after {x} says {q}?", "After the words {q} by {x}, who speaks?",
        "Who answers {x}, who said {q}?"]  # fmt: skip
SAYS = ["What does {y} say after {x} says {q}?", "What is the answer of {y} to {q}?",
        "{x} says {q}. What does {y} reply?"]  # fmt: skip
WHO_IS = ["Who {be} {verb} {what}?", "Tell me who {be} {verb} {what}."]
SCENE = re.compile(
    r"(?P<who>(?:A|An|The|Two|Some) [\w ]+?) (?P<be>is|are) (?P<verb>\w+ing) "
    r"(?P<what>(?:a|an|the|some) [\w ]+?)(?= (?:in|on|at|with|and|near|by|for|into|from)\b|$)"
)

Question = dict[str, Any]


def question(words: str, answer: str, start: int) -> Question:
    """A question of SQuAD, without its number."""
    return {"question": words, "answers": [{"text": answer, "answer_start": start}]}


def of_play(play: Play, draw: random.Random) -> Iterator[tuple[str, list[Question]]]:
    """(context, questions) of the passages of a play that have short speeches alone."""
    place = 0
    while place < len(play.speeches):
        part = play.speeches[place : place + draw.randint(*SPEECHES)]
        place += len(part)
        if len({each.scene for each in part}) > 1 or len({each.speaker for each in part}) < 2:
            continue
        if any(len(each.text.split()) > LONGEST for each in part) or len(part) < SPEECHES[0]:
            continue
        yield passage(part, draw)


def passage(part: tuple[Speech, ...], draw: random.Random) -> tuple[str, list[Question]]:
    """The speeches as a context, and questions about them."""
    texts = [" ".join(each.text.split()) for each in part]
    context, starts = "", []
    for each, text in zip(part, texts, strict=True):
        starts.append((len(context), len(context) + len(each.speaker) + 2))
        context += f"{each.speaker}: {text}\n"
    found = []
    for _ in range(PER_PLAY):
        number = draw.randrange(len(part) - 1)
        words, size = texts[number].split(), draw.randint(*QUOTED)
        first = draw.randrange(max(1, len(words) - size + 1))
        quoted = f'"{" ".join(words[first : first + size]).strip(".,;:!?—")}"'
        names = {"q": quoted, "x": part[number].speaker, "y": part[number + 1].speaker}
        kind = draw.choice((WHO, NEXT, SAYS))
        asked = draw.choice(kind).format(**names)
        if kind is SAYS:
            found.append(question(asked, texts[number + 1], starts[number + 1][1]))
        else:
            other = number + (kind is NEXT)
            found.append(question(asked, part[other].speaker, starts[other][0]))
    return context.strip(), found


def of_sentences(sentences: list[str], draw: random.Random) -> Iterator[tuple[str, list[Question]]]:
    """(context, questions) of groups of sentences of which each tells another scene."""
    draw.shuffle(sentences)
    for place in range(0, len(sentences) - SENTENCES + 1, SENTENCES):
        part = sentences[place : place + SENTENCES]
        context, starts = "", []
        for each in part:
            starts.append(len(context))
            context += f"{each}. "
        found = []
        for number in draw.sample(range(SENTENCES), SENTENCES):
            match = SCENE.match(part[number])
            if match is None or len(found) == PER_SENTENCE:
                continue
            who = match["who"][0].lower() + match["who"][1:]
            if draw.random() < 0.5:
                asked = draw.choice(WHO_IS)
                key = "who"
            else:
                asked = draw.choice(["What {be} {w} {verb}?", "{v} what {be} {w}?",
                                     "What is it that {w} {be} {verb}?"])  # fmt: skip
                key = "what"
            about = {**match.groupdict(), "w": who, "v": match["verb"].capitalize()}
            # another scene of the same people or things would be a second right answer
            if sum(match["verb"] in each.split() for each in part) > 1:
                continue
            start = starts[number] + match.start(key)
            found.append(question(asked.format(**about), match[key], start))
        if found:
            yield context.strip(), found


def write(path: Path, groups: list[tuple[str, list[Question]]]) -> None:
    """A part as a SQuAD file."""
    paragraphs = []
    for number, (context, questions) in enumerate(groups):
        qas = [{"id": f"{number}-{place}", **each} for place, each in enumerate(questions)]
        for each in questions:
            (answer,) = each["answers"]
            end = answer["answer_start"] + len(answer["text"])
            assert context[answer["answer_start"] : end] == answer["text"], (context, each)
        paragraphs.append({"context": context, "qas": qas})
    document = {"version": "1.1", "data": [{"title": path.stem, "paragraphs": paragraphs}]}
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    print(path, sum(len(questions) for _, questions in groups), "questions")


def main() -> None:
    """Writes the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int, default=5, help="cuts of the texts into contexts")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw = random.Random(arguments.seed)
    # 1. plays by part: a tenth each for dev and test
    known = list(plays())
    draw.shuffle(known)
    tenth = len(known) // 10
    parts = {"dev": known[:tenth], "test": known[tenth : 2 * tenth], "train": known[2 * tenth :]}
    # 2. sentences by part; both of a pair are in the same
    with (arguments.data / "sick" / "SICK.txt").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    of = {"TRAIN": "train", "TRIAL": "dev", "TEST": "test"}
    sentences: dict[str, dict[str, None]] = {"train": {}, "dev": {}, "test": {}}
    for row in rows:
        for name in ("sentence_A", "sentence_B"):
            sentences[of[row["SemEval_set"]]][row[name]] = None
    for name in ("dev", "test"):
        for each in sentences["train"].keys() & sentences[name].keys():
            del sentences[name][each]
    # 3. contexts with their questions
    for name, own in parts.items():
        groups: list[tuple[str, list[Question]]] = []
        for _ in range(arguments.passes):
            groups += [group for play in own for group in of_play(play, draw)]
            groups += list(of_sentences([*sentences[name]], draw))
        draw.shuffle(groups)
        if name == "train":
            text = "\n\n".join(dict.fromkeys(context for context, _ in groups))
            (arguments.out / "text.txt").write_text(text + "\n", encoding="utf-8")
        write(arguments.out / f"{name}.json", groups if name == "train" else groups[:1000])


if __name__ == "__main__":
    main()
