"""Errors for a log that holds no text of a client."""

import traceback


def wordless(error: BaseException) -> str:
    """The kind of an error and the lines of code that it passed, without its words, which may quote a row."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return "\n".join(f"{type(each).__name__}\n{''.join(traceback.format_tb(each.__traceback__))}" for each in chain)
