"""The closed table of kinds."""

from collections.abc import Mapping
from types import MappingProxyType

from adapterkit.tasks.causal_lm import CausalLm
from adapterkit.tasks.masked_lm import MaskedLm
from adapterkit.tasks.multiple_choice import MultipleChoice
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.question_answering import QuestionAnswering
from adapterkit.tasks.seq2seq_lm import Seq2SeqLm
from adapterkit.tasks.text_classification import TextClassification
from adapterkit.tasks.token_classification import TokenClassification

_ALL = (TextClassification, TokenClassification, QuestionAnswering, MultipleChoice, MaskedLm, CausalLm, Seq2SeqLm)
TASKS: Mapping[str, type[Task]] = MappingProxyType({task.kind: task for task in _ALL})
"""Kind -> its class, in the order of `adapterkit.recipe.KINDS`."""
