"""From a run and a table of conversations to a model that answers, and a conversation with it.

python examples/talk.py runs/book examples/talks.jsonl --budget 20epochs
"""

import argparse

import scriven
from scriven.generate.chat import Conversation

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run")
parser.add_argument("talks", help="a table with messages, or with prompt and completion")
parser.add_argument("--budget", default="20epochs")
parser.add_argument("--ask", nargs="+", default=["Good morning.", "Who are you?", "Farewell."])
arguments = parser.parse_args()

model = scriven.load(arguments.run).finetune(arguments.talks, budget=arguments.budget, quiet=True)
talk = Conversation(model.stream, model.tokenizer, model.task.max_context)
for question in arguments.ask:
    print(f"\nyou    {question}\nmodel  ", end="")
    for step in talk.ask(question, temperature=0, max_new_tokens=60):
        print(step.text, end="", flush=True)
    print(f"\n       ({step.tokens} tokens, {step.finish_reason})")
print(f"\nthe model is in {model.folder}; the conversation has {len(talk.messages)} messages")
