"""Continues a text with a model of another program, measures it on a book, and talks to it.

python examples/other_models.py smollm2.gguf --book book.txt
"""

import argparse

import scriven
from scriven.generate.chat import Conversation

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a .gguf file, a Hugging Face folder, an adapter, hf:ORG/NAME")
parser.add_argument("--prompt", default="It was a dark and stormy night, and")
parser.add_argument("--book", help="a text to measure it on")
parser.add_argument("--ask", default="What is the capital of France?")
arguments = parser.parse_args()

model = scriven.load(arguments.model)
print(model.generate(arguments.prompt, temperature=0, max_new_tokens=40))
if arguments.book:
    scores = model.evaluate(arguments.book)
    print(f"\n{arguments.book}: {scores['bits_per_byte']:.3f} bits per byte")
if model.tokenizer.chat_template is not None:
    conversation = Conversation(model.stream, model.tokenizer, model.task.max_context)
    answer = conversation.ask(arguments.ask, temperature=0, max_new_tokens=40)
    print(f"\nyou    {arguments.ask}\nmodel  {''.join(chunk.text for chunk in answer)}")
