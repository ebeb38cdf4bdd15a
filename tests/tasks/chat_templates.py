"""Chat templates of real models, cut down to what their turns look like, and what is to be learned of one chat.

The structure is that of the models' own templates: what stands before and behind a turn, what they refuse, what they
rewrite. Tools, pictures and dates are left out.
"""

from __future__ import annotations

from typing import NamedTuple

ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)


class Case(NamedTuple):
    """A template.

    Attributes:
        source: in jinja.
        learned: of the chat below.
        stop: the text at which a turn of the assistant ends.
        asks: what the prompt ends with, where a turn that is learned does not begin like that.
    """

    source: str
    learned: str
    stop: str
    asks: str = ""


CHAT = [
    {"role": "user", "content": "where is Ada ?"},
    {"role": "assistant", "content": "in London"},
    {"role": "user", "content": "and the fox ?"},
    {"role": "assistant", "content": "over the dog"},
]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TEMPLATES: dict[str, Case] = {
    "SmolLM": Case(CHATML, "in London<|im_end|>\nover the dog<|im_end|>\n", "<|im_end|>"),
    "Qwen2.5": Case(
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
        + CHATML,
        "in London<|im_end|>\nover the dog<|im_end|>\n",
        "<|im_end|>",
    ),
    # Thoughts stand in turns behind the last question alone, empty ones where there are none.
    "Qwen3": Case(
        "{% set ns = namespace(last=messages|length - 1) %}"
        "{% for m in messages[::-1] %}{% if ns.last == messages|length - 1 and m.role == 'user' %}"
        "{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% set content = m.content if m.content is string else '' %}"
        "{% if m.role == 'assistant' %}{% set thought = '' %}{% if '</think>' in content %}"
        "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip() %}"
        "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.last %}"
        "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
        "{{ content }}{% for call in m.tool_calls or [] %}"
        "{{ '\n<tool_call>\n' + (call.function | tojson) + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
        "{% else %}{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "in London<|im_end|>\n<think>\n\n</think>\n\nover the dog<|im_end|>\n",
        "<|im_end|>",
    ),
    "Llama-3": Case(
        "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
        " + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
        "{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "in London<|eot_id|>over the dog<|eot_id|>",
        "<|eot_id|>",
    ),
    # It writes nothing for a generation prompt.
    "Mistral": Case(
        "{{ bos_token }}{% for m in messages %}" + ALTERNATE + "{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
        "in London</s>over the dog</s>",
        "</s>",
    ),
    "Gemma": Case(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}" + ALTERNATE + "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "in London<end_of_turn>\nover the dog<end_of_turn>\n",
        "<end_of_turn>",
    ),
    # A chat that asks for nothing ends with the end token.
    "Phi-3": Case(
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + '\n' + m['content'] + '<|end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        "in London<|end|>\nover the dog<|end|>\n</s>",
        "<|end|>",
    ),
    "Zephyr": Case(
        "{% for m in messages %}\n{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        "in London</s>\nover the dog</s>\n",
        "</s>",
    ),
    # The prompt opens a thought that no turn holds.
    "DeepSeek-R1": Case(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% else %}"
        "{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}",
        "in London</s>over the dog</s>",
        "</s>",
        asks="<think>\n",
    ),
    # The prompt ends with a space, which belongs to the answer's first token.
    "Unsloth": Case(
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '>>> User: ' + m['content'] + '\n' }}{% else %}"
        "{{ '>>> Assistant: ' + m['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '>>> Assistant: ' }}{% endif %}",
        " in London</s>\n over the dog</s>\n",
        "</s>",
    ),
}

SPECIAL = [
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>"),
    *("<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<｜User｜>", "<｜Assistant｜>"),
]
"""Marks of the templates that are one token in their models."""
