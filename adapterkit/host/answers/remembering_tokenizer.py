"""One call of a host reads every text once, however many of its tasks ask for it."""

import copy
from typing import Any


class RememberingTokenizer:
    """A tokenizer for the length of one call: what was asked before in the same words is answered from memory.

    Everything else is the tokenizer's own.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any, text_pair: Any = None, **settings: Any) -> Any:
        """The tokenizer's answer; a copy, from which the asker may take things out."""
        key = _fixed(text), _fixed(text_pair), tuple(sorted(settings.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._tokenizer(text, text_pair, **settings)
        return copy.copy(found)


def _fixed(texts: Any) -> Any:
    return tuple(map(_fixed, texts)) if isinstance(texts, list | tuple) else texts
