"""Several short documents in one block, for training. Their positions begin again, and that is what keeps them apart.

Whoever computes a batch with `position_ids` lets no document see another (see `heads.unpadded`). The first label of a
document is ignored, so its first token is not predicted from the last one of the document before.
"""

from collections.abc import Sequence

from adapterkit.tasks.values import Feature

OPEN_BLOCKS = 64
"""Blocks that are filled at the same time. More: less room is left over, and more of the rows are looked at."""


def fill_blocks(features: Sequence[Feature], size: int) -> list[Feature]:
    """Put features together into blocks of at most `size` tokens: each into the fullest block that has room for it.

    A block takes the row of its first document; `extras["rows"]` names all of them.
    """
    blocks: list[list[Feature]] = []
    open_blocks: dict[int, int] = {}
    for feature in features:
        fitting = [number for number, room in open_blocks.items() if room >= feature.length_tokens]
        if fitting:
            number = min(fitting, key=lambda fits: (open_blocks[fits], fits))
            blocks[number].append(feature)
        else:
            number = len(blocks)
            blocks.append([feature])
            open_blocks[number] = size
            if len(open_blocks) > OPEN_BLOCKS:
                del open_blocks[min(open_blocks, key=lambda fits: (open_blocks[fits], fits))]
        if number in open_blocks:
            open_blocks[number] -= feature.length_tokens
    return [_block(number, documents) for number, documents in enumerate(blocks)]


def _block(number: int, documents: Sequence[Feature]) -> Feature:
    inputs = {name: [item for document in documents for item in document.inputs[name]] for name in documents[0].inputs}
    inputs["position_ids"] = [place for document in documents for place in range(document.length_tokens)]
    return Feature(
        documents[0].row,
        number,
        inputs,
        [label for document in documents for label in document.labels],
        len(inputs["input_ids"]),
        {
            "characters": sum(document.extras["characters"] for document in documents),
            "rows": [document.row for document in documents],
        },
    )
