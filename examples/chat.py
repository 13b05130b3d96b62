"""Fine-tunes a run on a table of conversations, and chats with it.

python examples/chat.py runs/book examples/conversations.jsonl --budget 20epochs
"""

import argparse

import scriven
from scriven.generate.chat import Conversation

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run")
parser.add_argument("table", help="with a column messages, or with prompt and completion")
parser.add_argument("--budget", default="20epochs")
parser.add_argument("--ask", nargs="+", default=["Good morning.", "Who are you?", "Farewell."])
arguments = parser.parse_args()

model = scriven.load(arguments.run).finetune(arguments.table, budget=arguments.budget, quiet=True)
conversation = Conversation(model.stream, model.tokenizer, model.task.max_context)
for question in arguments.ask:
    print(f"\nyou    {question}\nmodel  ", end="")
    for chunk in conversation.ask(question, temperature=0, max_new_tokens=60):
        print(chunk.text, end="", flush=True)
    print(f"\n       ({chunk.tokens} tokens, {chunk.finish_reason})")
print(f"\nmodel: {model.folder}, messages: {len(conversation.messages)}")
