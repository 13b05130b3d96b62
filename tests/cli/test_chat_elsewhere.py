"""A chat model in other programs: the same answers, with the template that lies in its folder."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from talkers import TALKS, make_talker

import scriven
from scriven.cli import run
from scriven.tokenizers.chat_template import TEMPLATE

QUESTIONS = [[question] for question, _ in TALKS] + [
    ["Good night.", "Who are you?"],
    ["What is it, my lord?"],
    ["  two\nlines? 😀 \n"],
]


MOST = 38
"""Tokens of an answer, of which a quarter of the context has room."""


@pytest.fixture(scope="module", params=["bpe", pytest.param("char", marks=pytest.mark.slow)])
def run_folder(
    request: pytest.FixtureRequest, talker: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param == "bpe":
        return talker
    return make_talker(tmp_path_factory.mktemp("talkers") / "letters", request.param)


@pytest.fixture(scope="module")
def exported(talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "hf"
    scriven.export(talker, "hf", out=out)
    return out


def our_answers(folder: Path, questions: list[str]) -> list[str]:
    """What a conversation answers, greedily."""
    from scriven.generate.chat import Conversation

    model = scriven.load(folder)
    talk = Conversation(model.stream, model.tokenizer, model.task.max_context)
    knobs: dict[str, Any] = {"temperature": 0, "max_new_tokens": MOST}
    return ["".join(step.text for step in talk.ask(each, **knobs)) for each in questions]


def their_answers(folder: Path, questions: list[str]) -> list[str]:
    """The same by transformers alone, from what is written in the folder."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages, answers = [], []
    for question in questions:
        messages.append({"role": "user", "content": question})
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**ids, do_sample=False, max_new_tokens=MOST)
        answer = tokenizer.decode(made[0, ids["input_ids"].size(1) :], skip_special_tokens=True)
        messages.append({"role": "assistant", "content": answer})
        answers.append(answer)
    return answers


@pytest.mark.parametrize("questions", QUESTIONS, ids=lambda asked: asked[-1][:8])
def test_transformers_gives_the_same_greedy_answers(run_folder: Path, questions: list[str]) -> None:
    assert their_answers(run_folder, questions) == our_answers(run_folder, questions)


def test_an_exported_folder_gives_them_too(talker: Path, exported: Path) -> None:
    questions = [question for asked in QUESTIONS for question in asked][:3]
    assert their_answers(exported, questions) == our_answers(talker, questions)


def test_a_wrong_template_is_found_out(exported: Path, talker: Path, tmp_path: Path) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    wrong = TEMPLATE.replace("assistant\\n", "assistant ")
    assert wrong != TEMPLATE
    (tmp_path / "chat_template.jinja").write_text(wrong)
    questions = ["What is it, my lord?", "Good night.", "Who are you?"]
    assert their_answers(tmp_path, questions) != our_answers(talker, questions)


def test_the_folder_says_how_to_talk(talker: Path, exported: Path) -> None:
    for folder in (talker, exported):
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert told["chat_template"] == TEMPLATE
        assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        generation = json.loads((folder / "generation_config.json").read_text())
        assert generation["eos_token_id"] == [end, eos]
        assert not {end, eos} & set(generation["suppress_tokens"])
        assert "apply_chat_template" in (folder / "README.md").read_text(encoding="utf-8")


def test_an_imported_folder_can_be_talked_to_again(
    talker: Path,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = scriven.import_run(exported, tmp_path / "again")
    assert again.metadata["task"] == "chat"
    assert our_answers(again.folder, ["Who are you?"]) == our_answers(talker, ["Who are you?"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Good night.\n")))
    capsys.readouterr()
    assert run(["chat", str(again.folder), "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "Sweet rest.\n"
    template = (again.folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert template == TEMPLATE


ASK_LLAMA = """
import json, sys, urllib.request, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx = sys.argv[1], 160
params.cpuparams.n_threads, params.n_gpu_layers, params.verbosity = 1, 0, -1
params.warmup = params.fit_params = False
server = xllamacpp.Server(params)
asked = {"messages": json.loads(sys.argv[2]), "temperature": 0, "max_tokens": 50}
sent = urllib.request.Request(
    server.listening_address + "/v1/chat/completions",
    json.dumps(asked).encode(), {"Content-Type": "application/json"},
)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print("ANSWER", json.dumps(json.load(opener.open(sent))["choices"][0]))
"""


def test_llama_cpp_talks_by_the_template_in_the_file(run_folder: Path, tmp_path: Path) -> None:
    made = scriven.export(run_folder, "gguf", out=tmp_path / "gguf", dtype="f32")
    name = next(file for file in made["files"] if file.endswith(".gguf"))
    messages = [
        {"role": "user", "content": "Good night."},
        {"role": "assistant", "content": "Sweet rest."},
        {"role": "user", "content": "Who are you?"},
    ]
    line = [sys.executable, "-c", ASK_LLAMA, str(tmp_path / "gguf" / name), json.dumps(messages)]
    said = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(said.split("ANSWER ", 1)[1].splitlines()[0])
    assert found["finish_reason"] == "stop"  # by <|im_end|>
    assert (
        found["message"]["content"] == our_answers(run_folder, ["Good night.", "Who are you?"])[1]
    )
    modelfile = (tmp_path / "gguf" / "Modelfile").read_text(encoding="utf-8")
    assert "PARAMETER stop <|im_end|>" in modelfile
    # the same markup in Ollama's own language
    for mark in ("<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n", "<|im_start|>assistant\n"):
        assert mark in modelfile
