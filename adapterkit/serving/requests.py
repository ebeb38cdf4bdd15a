"""What clients send: bounded, checked whole before anything is computed, refused with every reason."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from adapterkit.errors import AdapterkitError, ServingError
from adapterkit.manifest import parse_json
from adapterkit.serving.settings import Limits

Model = TypeVar("Model", bound=BaseModel)
Name = Annotated[str, Field(min_length=1, max_length=200)]
Key = Annotated[str, Field(max_length=512)]
_REPORTED = 20


class RequestError(AdapterkitError, ValueError):
    """A request that cannot be used, with the status and the headers of the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        summary: str,
        problems: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(summary, problems)
        self.status, self._code, self.headers = status, code, dict(headers or {})

    @property
    def code(self) -> str:
        return self._code


class QueueFullError(ServingError):
    """More rows wait than a service takes. `retry_after_s`: when to come back."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting:,} rows wait already", remedy=f"Come back in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Predict(Body):
    """Rows of any tasks. A row is {"task": …} with its columns beside it, such as {"task": "intent", "text": "…"}."""

    rows: Annotated[list[dict[str, JsonValue]], Field(min_length=1)]
    key: Key = ""


class PredictTask(Body):
    """Rows of one task: texts, or objects of its columns."""

    rows: Annotated[list[str | dict[str, JsonValue]], Field(min_length=1)]
    key: Key = ""


class PredictAll(Body):
    """One row that many tasks answer; without tasks, all."""

    row: str | dict[str, JsonValue]
    tasks: list[Name] | None = None
    key: Key = ""


class Feedback(Body):
    """What the right answer was, for an answer that was given."""

    task: Name
    version: Annotated[str, Field(max_length=200)]
    right: bool | None = None
    answer: JsonValue = None
    label: JsonValue = None


class MountTask(Body):
    """An artifact that shall answer a task: a folder on the service's machine, or a hub id."""

    task: Name
    source: Annotated[str, Field(min_length=1, max_length=4096)]


class UnmountTask(Body):
    """A task that shall not be answered any more."""

    task: Name


class Promote(Body):
    """A version that a channel shall point to. With `try_only` nothing is changed, and the evidence is shown."""

    task: Name
    version: Name
    channel: Name = "stable"
    evidence: dict[Name, JsonValue] = Field(default_factory=dict)
    force: Annotated[str, Field(max_length=2000)] = ""
    try_only: bool = False


class RollBack(Body):
    """A channel that shall point to what it pointed to before."""

    task: Name
    channel: Name = "stable"


class Divide(Body):
    """How the traffic of a task shall be divided: channel -> share."""

    task: Name
    split: Annotated[dict[Name, Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1, max_length=16)]


class Drain(Body):
    """Whether new requests shall be sent elsewhere."""

    on: bool = True


class StreamOptions(Body):
    """What a stream shall tell besides."""

    include_usage: bool = False


class OpenAIBody(BaseModel):
    """What OpenAI's bodies have in common. What is not honoured is refused by name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: Name
    user: Key = ""


class TextRequest(OpenAIBody):
    """How a text shall be continued."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1


class CompletionRequest(TextRequest):
    """OpenAI's completion request."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = 16


class Message(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="allow", frozen=True)

    role: Name
    content: JsonValue = None


class ChatRequest(TextRequest):
    """OpenAI's chat request."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None


class EmbeddingsRequest(OpenAIBody):
    """OpenAI's embedding request."""

    input: str | Annotated[list[str], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"


_NULL = ("dimensions", "logit_bias", "metadata", "parallel_tool_calls", "service_tier", "suffix", "top_logprobs")
WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(_NULL, (None,)),
    **dict.fromkeys(("logprobs", "store"), (None, False)),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), (0,)),
    "best_of": (1,),
    "echo": (False,),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
}
"""OpenAI's other fields -> the values that ask for nothing, which are taken; any other is refused by name."""


def read(model: type[Model], raw: bytes, limits: Limits) -> Model:
    """A request's body. Raises RequestError with every reason."""
    try:
        value = parse_json(raw, "body")
    except AdapterkitError as error:
        raise RequestError(400, "bad_json", error.summary, error.problems) from error
    try:
        found = model.model_validate(value)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [f"{'.'.join(map(str, item['loc']))[:200]}: {item['msg'][:200]}" for item in items[:_REPORTED]]
        raise RequestError(422, "bad_request", "the request cannot be used", tuple(problems)) from error
    problems = [
        f"{name[:60]}: is not honoured here, leave it out"
        for name, value in (found.model_extra or {}).items()
        if name not in WITHOUT_EFFECT or value not in WITHOUT_EFFECT[name]
    ]
    problems += _too_much(found, limits)
    if problems:
        raise RequestError(422, "bad_request", "the request cannot be used", tuple(problems))
    return found


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A body for the OpenAPI schema: it is read here and not by FastAPI, which would parse it unbounded."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def _too_much(found: BaseModel, limits: Limits) -> list[str]:
    problems = []
    for name in ("rows", "prompt", "input", "messages", "tasks"):
        value = getattr(found, name, None)
        if isinstance(value, list) and len(value) > limits.rows:
            problems.append(f"{name}: found {len(value):,}, expected at most {limits.rows:,}")
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(found, name, None)
        if value is not None and value > limits.new_tokens:
            problems.append(f"{name}: found {value:,}, expected at most {limits.new_tokens:,}")
    longest = max(map(len, _texts(found.model_dump())), default=0)
    if longest > limits.text_characters:
        problems.append(f"a text: {longest:,} characters, expected at most {limits.text_characters:,}")
    return problems


def _texts(value: Any) -> list[str]:
    found, open_ = [], [value]
    while open_:
        inner = open_.pop()
        if isinstance(inner, str):
            found.append(inner)
        elif isinstance(inner, Mapping):
            open_ += inner.values()
        elif isinstance(inner, list | tuple):
            open_ += inner
    return found
