"""The demo's data set, made by a seeded grammar: requests to an assistant, with intents and slots."""

from adapterkit.demo.generate import ROWS, generate, sentences
from adapterkit.demo.phrases import INTENTS, PHRASES
from adapterkit.demo.sentences import SLOTS, Sentence

__all__ = ["INTENTS", "PHRASES", "ROWS", "SLOTS", "Sentence", "generate", "sentences"]
