"""The demo's data set, made by a seeded grammar: requests to an assistant, with intents and slots."""

from adapterkit.demo.grammar import GRAMMAR, INTENTS, ROWS, SLOTS, Sentence, generate, sentences

__all__ = ["GRAMMAR", "INTENTS", "ROWS", "SLOTS", "Sentence", "generate", "sentences"]
