"""The official client of OpenAI's API, against a small model of our own."""

import json
import re
import time
from pathlib import Path

import openai
import pytest
from running import Running

import scriven


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [each.id for each in client.models.list()] == ["book", "talk", "label"]
    assert client.models.retrieve("talk").owned_by == "scriven"
    with pytest.raises(openai.NotFoundError, match="does not exist") as caught:
        client.models.retrieve("other")
    assert caught.value.code == "model_not_found"


def test_a_completion_is_what_the_library_generates(
    client: openai.OpenAI, runs: dict[str, Path]
) -> None:
    answer = client.completions.create(
        model="book", prompt="The ", max_tokens=30, seed=3, temperature=0.7, n=2
    )
    right = scriven.load(runs["book"]).generate_many(
        ["The "] * 2, max_new_tokens=30, seed=3, temperature=0.7
    )
    assert [each.text for each in answer.choices] == [each.text for each in right]
    assert [each.finish_reason for each in answer.choices] == ["length"] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 60)


def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="book", prompt="A k", max_tokens=25, seed=1)
    pieces = list(
        client.completions.create(
            model="book", prompt="A k", max_tokens=25, seed=1, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert "".join(p.choices[0].text for p in pieces if p.choices) == whole.choices[0].text
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert pieces[-1].usage == whole.usage


def test_stop_strings_echo_and_lists_of_prompts(client: openai.OpenAI) -> None:
    prompts = ["The cat", "The dog"]
    found = client.completions.create(
        model="book", prompt=prompts, max_tokens=40, temperature=0, echo=True, stop=["t", "zzz"]
    ).choices
    assert [each.text[:7] for each in found] == prompts
    assert all("t" not in each.text[7:] for each in found)
    assert {each.finish_reason for each in found} <= {"stop", "length"}
    ids = client.completions.create(model="book", prompt=[5, 6, 7], max_tokens=1)
    assert ids.usage is not None and ids.usage.prompt_tokens == 3


def test_logprobs_of_both_kinds_agree(client: openai.OpenAI) -> None:
    old = client.completions.create(
        model="talk", prompt="The ", max_tokens=5, temperature=0, logprobs=3
    ).choices[0]
    assert old.logprobs is not None and old.logprobs.tokens is not None
    assert "".join(old.logprobs.tokens) == old.text
    assert old.logprobs.text_offset == [0, 1, 2, 3, 4]
    for token, value, top in zip(
        old.logprobs.tokens, old.logprobs.token_logprobs, old.logprobs.top_logprobs, strict=True
    ):
        assert top[token] == value == max(top.values()) <= 0, "greedy takes the likeliest"
        assert len(top) == 3
    chat = client.chat.completions.create(
        model="talk", messages=[{"role": "user", "content": "cat?"}], max_completion_tokens=4,
        temperature=0, logprobs=True, top_logprobs=2,
    ).choices[0]  # fmt: skip
    assert chat.logprobs is not None and chat.logprobs.content is not None
    for each in chat.logprobs.content:
        assert each.logprob == each.top_logprobs[0].logprob
        assert bytes(each.bytes or []).decode() == each.token or each.token.startswith("<|")


def test_a_conversation_is_answered_and_streamed(client: openai.OpenAI) -> None:
    talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "cat?"}]
    whole = client.chat.completions.create(
        model="talk", messages=talk, max_tokens=12, seed=5
    ).choices[0]  # fmt: skip
    stream = client.chat.completions.create(
        model="talk", messages=talk, max_tokens=12, seed=5, stream=True
    )
    deltas = [each.choices[0].delta for each in stream]
    assert deltas[0].role == "assistant"
    assert "".join(each.content or "" for each in deltas) == whole.message.content
    parts = [{"role": "user", "content": [{"type": "text", "text": "cat?"}]}]
    assert client.chat.completions.create(model="talk", messages=parts, max_tokens=1).choices


def test_a_model_without_conversations_says_what_it_has(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/completions"):
        client.chat.completions.create(model="book", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="/v1/predict"):
        client.completions.create(model="label", prompt="x")


def test_structured_output_follows_schema_and_regex(client: openai.OpenAI) -> None:
    pattern = "(the|a) (cat|dog) sat"
    found = client.completions.create(
        model="book", prompt="x", max_tokens=40, seed=2,
        extra_body={"response_format": {"type": "regex", "pattern": pattern}},
    ).choices[0]  # fmt: skip
    assert re.fullmatch(pattern, found.text) and found.finish_reason == "stop"
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.completions.create(
            model="book", prompt="x",
            extra_body={"response_format": {"type": "regex", "pattern": "(("}},
        )  # fmt: skip


def test_biases_and_penalties_change_what_is_said(client: openai.OpenAI, server: Running) -> None:
    only = server.post("/api/tokenize", {"model": "book", "text": "q"}).json()["ids"]
    if not only:
        pytest.skip("the text has no such letter")
    a = server.post("/api/tokenize", {"model": "book", "text": "a"}).json()["ids"][0]
    forced = client.completions.create(
        model="book", prompt="The ", max_tokens=4, logit_bias={str(a): 100}
    )
    assert forced.choices[0].text == "aaaa"
    banned = client.completions.create(
        model="book", prompt="The c", max_tokens=40, logit_bias={str(a): -100}, seed=1
    )
    assert "a" not in banned.choices[0].text
    plain, penalised = (
        client.completions.create(
            model="book", prompt="The ", max_tokens=60, temperature=0, frequency_penalty=value
        ).choices[0].text
        for value in (0, 2)
    )  # fmt: skip
    assert len(set(penalised)) > len(set(plain))


def test_embeddings_are_means_of_hidden_states(client: openai.OpenAI) -> None:
    together = client.embeddings.create(model="book", input=["The cat", "A dog sat"])
    alone = client.embeddings.create(model="book", input="A dog sat", encoding_format="float")
    assert together.data[1].embedding == pytest.approx(alone.data[0].embedding, abs=1e-5)
    assert len(alone.data[0].embedding) == 32
    assert together.usage.prompt_tokens == 16


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n: "),
        ({"top_p": 0}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"nonsense": 1}, "unrecognized request argument supplied: nonsense"),
        ({"prompt": [99999]}, "99999"),
        ({"prompt": "x" * 65}, "maximum context length is 64"),
        ({"logit_bias": {"99999": 1}}, "99999"),
        ({"stream_options": {"include_usage": True}}, "stream"),
        ({"best_of": 3}, "best_of"),
    ],
)
def test_a_wrong_request_is_answered_as_the_reference_server_does(
    client: openai.OpenAI, body: dict[str, object], text: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="book", prompt="x", extra_body=body)
    assert text in caught.value.body["message"]  # type: ignore[index]
    assert caught.value.body["type"] == "invalid_request_error"  # type: ignore[index]


def test_a_long_prompt_is_truncated_where_that_is_asked_for(client: openai.OpenAI) -> None:
    found = client.completions.create(
        model="book", prompt="The cat sat. " * 40, max_tokens=3, extra_body={"truncation": "auto"}
    )
    assert found.choices[0].finish_reason == "length"


def test_a_client_that_leaves_frees_its_place(client: openai.OpenAI, server: Running) -> None:
    scheduler = server.served[0].scheduler
    assert scheduler is not None
    with client.completions.create(
        model="book", prompt="The ", max_tokens=100_000, stream=True,
        logit_bias={"0": -100, "1": -100, "2": -100},
    ) as stream:  # fmt: skip
        for _, piece in zip(range(3), stream, strict=False):
            assert piece.choices
        assert scheduler.running == 1
    ends = time.monotonic() + 10
    while scheduler.running and time.monotonic() < ends:
        time.sleep(0.02)
    assert scheduler.running == 0


def test_rows_are_predicted_with_probabilities(server: Running) -> None:
    body = {"model": "label", "inputs": ["the cat sat", {"text": "the dog sat"}]}
    found = server.post("/v1/predict", body).json()["data"]
    for each in found:
        assert each["prediction"] in ("cat", "dog")
        assert sum(each["probabilities"].values()) == pytest.approx(1)
        assert each["probability"] == max(each["probabilities"].values())
    assert "not fine-tuned" in server.post("/v1/predict", {"model": "book", "inputs": ["x"]}).text


def test_usage_of_the_server_is_counted(server: Running) -> None:
    server.post("/v1/completions", {"model": "book", "prompt": "a", "max_tokens": 2})
    text = server.get("/metrics").text
    assert 'scriven_requests_total{route="/v1/completions",status="200"}' in text
    assert re.search(r'scriven_generated_tokens_total\{model="book"\} \d', text)
    assert json.loads(server.get("/health").text) == {"status": "ok"}
