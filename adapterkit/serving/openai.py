"""OpenAI's paths, for clients that speak nothing else: a model is a task.

A text is streamed once it is there: a batch of many adapters ends as a whole, so the first words wait for the last.
"""

from __future__ import annotations

import base64
import json
import struct
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from adapterkit.host.answers.decoding import Decoding
from adapterkit.serving import requests
from adapterkit.serving.fleet import Receipt
from adapterkit.serving.guarded import error_facts, key_of
from adapterkit.serving.requests import RequestError, schema_of
from adapterkit.serving.work import Done
from adapterkit.tasks.protocol import Vocabulary

if TYPE_CHECKING:
    from fastapi import FastAPI

    from adapterkit.host import Host
    from adapterkit.serving.service import Service

BACKBONE = "backbone"
"""The model whose embeddings are those of the bare backbone."""


def add_routes(app: FastAPI, service: Service) -> None:
    """Add OpenAI's paths to a service."""
    fleet = service.fleet

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        """The tasks, as models."""
        key_of(request, service.keys, "predict")
        listed = [*sorted(fleet.routes), BACKBONE]
        return JSONResponse({"object": "list", "data": [_model(name) for name in listed]})

    @app.get("/v1/models/{model}")
    async def model(model: str, request: Request) -> Response:
        """One task, as a model."""
        key_of(request, service.keys, "predict")
        if model != BACKBONE:
            fleet.find(model, "")
        return JSONResponse(_model(model))

    @app.post("/v1/completions", openapi_extra=schema_of(requests.CompletionRequest))
    async def completions(request: Request) -> Response:
        """Continue prompts."""
        owner, asked = await service.open(request, "predict", requests.CompletionRequest)
        writer = _writer(service, asked.model, asked.user or owner.name)
        prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        settings = _settings(asked, asked.max_tokens)
        found = await service.answer(request, [(asked.model, text) for text in prompts], asked.user, owner, settings)
        texts = _texts(found)
        choices = [
            {"index": n, "text": text, "finish_reason": "stop", "logprobs": None} for n, text in enumerate(texts)
        ]
        reply, usage = _reply(service, "text_completion", asked.model, choices, found), _usage(writer, prompts, texts)
        return _streamed([reply], asked, usage) if asked.stream else JSONResponse({**reply, "usage": usage})

    @app.post("/v1/chat/completions", openapi_extra=schema_of(requests.ChatRequest))
    async def chat(request: Request) -> Response:
        """Continue a chat."""
        owner, asked = await service.open(request, "predict", requests.ChatRequest)
        writer = _writer(service, asked.model, asked.user or owner.name)
        messages = [message.model_dump(exclude_none=True) for message in asked.messages]
        settings = _settings(asked, asked.max_completion_tokens or asked.max_tokens)
        found = await service.answer(request, [(asked.model, {"messages": messages})], asked.user, owner, settings)
        texts = _texts(found)
        usage = _usage(writer, [str(message.get("content", "")) for message in messages], texts)
        message = {"role": "assistant", "content": texts[0]}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        reply = _reply(service, "chat.completion", asked.model, [choice], found)
        if not asked.stream:
            return JSONResponse({**reply, "usage": usage})
        deltas = [({"role": "assistant", "content": ""}, None), ({"content": texts[0]}, None), ({}, "stop")]
        pieces = [[{"index": 0, "delta": delta, "finish_reason": reason}] for delta, reason in deltas]
        chunk = {**reply, "object": "chat.completion.chunk"}
        return _streamed([{**chunk, "choices": piece} for piece in pieces], asked, usage)

    @app.post("/v1/embeddings", openapi_extra=schema_of(requests.EmbeddingsRequest))
    async def embeddings(request: Request) -> Response:
        """Texts as vectors: the mean of the last hidden states, of the bare backbone or with a task's adapter."""
        owner, asked = await service.open(request, "predict", requests.EmbeddingsRequest)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        adapter, receipts = None, []
        if asked.model != BACKBONE:
            route, arm = fleet.find(asked.model, asked.user or owner.name)
            chosen = route.arms[arm]
            adapter, fingerprint = chosen.mounted, fleet.home(chosen.mounted).backbone.fingerprint
            receipts = [Receipt(route.task, chosen.version, chosen.digest, fingerprint, arm)] * len(texts)
        states = await service.features(texts, adapter)  # a mounted name holds its digest, so no other answers to it
        vectors = [state.float().mean(dim=0).tolist() for state in states]
        written: list[Any] = vectors
        if asked.encoding_format == "base64":
            written = [base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode() for each in vectors]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(written)]
        usage = _usage(fleet.home(adapter), texts, [])
        told = [service.receipt(each, item["embedding"]) for each, item in zip(receipts, data, strict=False)]
        reply = {"object": "list", "model": asked.model, "data": data, "usage": usage}
        return JSONResponse({**reply, "adapterkit": {"receipts": told}})


def _settings(asked: requests.TextRequest, new_tokens: int | None) -> dict[str, Any]:
    """How `Host.texts` continues a prompt."""
    top_p = asked.top_p if asked.top_p < 1 and asked.temperature else None
    decoding = Decoding(None, asked.temperature, None, top_p, asked.seed)
    return {"decoding": decoding, "max_new_tokens": new_tokens, "stop": asked.stop}


def _texts(found: list[Done]) -> list[str]:
    for done in found:
        if done.error is not None:
            facts = error_facts(done.error)
            raise RequestError(422, facts["code"], facts["message"])
    return [str(done.answer) for done in found]


def _reply(service: Service, kind: str, model: str, choices: list[Any], found: list[Done]) -> dict[str, Any]:
    receipts = [service.receipt(done.receipt, str(done.answer)) for done in found if done.receipt is not None]
    return {
        "id": f"{'cmpl' if kind == 'text_completion' else 'chatcmpl'}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "adapterkit": {"receipts": receipts},
    }


def _writer(service: Service, model: str, key: str) -> Host:
    """The host that answers a model. Raises NotMountedError."""
    route, arm = service.fleet.find(model, key)
    return service.fleet.home(route.arms[arm].mounted)


def _usage(host: Host, prompts: list[str], texts: list[str]) -> dict[str, int]:
    vocabulary = Vocabulary.of(host.backbone.tokenizer)
    read, written = (sum(len(vocabulary.read(text)["input_ids"]) for text in each) for each in (prompts, texts))
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _streamed(chunks: list[dict[str, Any]], asked: requests.TextRequest, usage: Mapping[str, int]) -> StreamingResponse:
    if asked.stream_options is not None and asked.stream_options.include_usage:
        chunks = [*chunks, {**chunks[0], "choices": [], "usage": usage}]

    async def events() -> AsyncIterator[str]:
        for chunk in chunks:
            yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "adapterkit"}
