"""The requests of OpenAI's HTTP API, checked by pydantic before the model sees them.

Field names, ranges and defaults are those of the API reference; `Field` limits keep any request
small enough to be answered. A field that the API does not have is refused, as the reference server
does; fields in `IGNORED` change nothing here and are accepted. Beyond the API: `top_k`, `min_p` and
`repetition_penalty`, as other servers have them, `truncation`, and `return_token_ids`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_TEXT = 4_000_000
"""Characters of a text in a request."""
MAX_CHOICES = 128
IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "parallel_tool_calls", "verbosity", "reasoning_effort", "prediction", "modalities",
)  # fmt: skip

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(max_length=1 << 20)]
Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Tokens = Annotated[int, Field(ge=0, lt=1 << 31)]


class Request(BaseModel):
    """What every request has: no unknown fields, no NaN, nothing converted behind one's back."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Annotated[str, Field(max_length=500)] | None = None
    """A name of /v1/models; by default the first."""

    @model_validator(mode="before")
    @classmethod
    def _without_ignored(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if name not in IGNORED}
        return data


class StreamOptions(BaseModel):
    """`stream_options`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class JSONSchema(BaseModel):
    """`response_format.json_schema`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(max_length=64)] = "answer"
    description: Text | None = None
    schema_: Annotated[dict[str, Any] | bool, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """`response_format`: free text, JSON, JSON of a schema, or text that a regex matches."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "json_object", "json_schema", "regex"] = "text"
    json_schema: JSONSchema | None = None
    pattern: Annotated[str, Field(max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("response_format of type json_schema needs json_schema")
        if self.type == "regex" and self.pattern is None:
            raise ValueError("response_format of type regex needs pattern")
        return self


class SamplingRequest(Request):
    """What completions and chat completions share."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Unit | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=1000)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[
                Annotated[str, Field(pattern=r"^\d{1,9}$")],
                Annotated[float, Field(ge=-100, le=100)],
            ],
            Field(max_length=1024),
        ]
        | None
    ) = None
    max_tokens: Tokens | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Seed | None = None
    stop: Text | Annotated[list[Text], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """auto: a prompt longer than the context loses its beginning; disabled (the default): 400."""
    return_token_ids: bool | None = None

    @model_validator(mode="after")
    def _options_of_streams(self) -> "SamplingRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for stream: true")
        return self


class CompletionRequest(SamplingRequest):
    """`POST /v1/completions`."""

    prompt: (
        Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_CHOICES)]
    ) = ""
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    suffix: None = None

    @model_validator(mode="after")
    def _best_of_all(self) -> "CompletionRequest":
        if self.best_of not in (None, self.n or 1):
            raise ValueError("best_of other than n is not supported: all texts are returned")
        return self


class ContentPart(BaseModel):
    """A part of a message; models here read text alone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[ContentPart], Field(min_length=1, max_length=1000)]
    name: Annotated[str, Field(max_length=500)] | None = None
    refusal: None = None

    @property
    def text(self) -> str:
        """Its content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(SamplingRequest):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _logprobs_together(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


class EmbeddingRequest(Request):
    """`POST /v1/embeddings`."""

    input: (
        Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=2048)]
        | Annotated[list[Ids], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None


class PredictRequest(Request):
    """`POST /v1/predict`: rows for a fine-tuned model."""

    inputs: Annotated[
        list[Text | Annotated[list[Text], Field(max_length=64)] | dict[str, Text]],
        Field(min_length=1, max_length=10_000),
    ]


class InspectRequest(Request):
    """`POST /api/inspect`: a text to look inside the model with."""

    text: Annotated[str, Field(max_length=20_000)]
    layer: Annotated[int, Field(ge=0, lt=10_000)] = 0
    top: Annotated[int, Field(ge=1, le=20)] = 5


class FinishRequest(Request):
    """`POST /api/training/finish`."""

    seconds: Annotated[float, Field(ge=1, le=1e9)] = 60
    """Until the last step."""


class TokenizeRequest(Request):
    """`POST /api/tokenize`."""

    text: Text
