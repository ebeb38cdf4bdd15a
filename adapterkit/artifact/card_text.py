"""Text that people or data wrote, in a card: it neither ends the YAML block nor becomes HTML, a link or a heading."""

_SPECIAL = "\\`*_{}[]()#+-!|~$@:"


def escaped(text: object) -> str:
    """Text that markdown and HTML show as it is, on one line, at most 200 characters."""
    flat = "".join(letter if letter.isprintable() else " " for letter in str(text))
    flat = flat if len(flat) <= 200 else f"{flat[:199]}…"
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    around = zip(" " + flat, flat, flat[1:] + " ", strict=False)
    return "".join(
        f"&#{ord(letter)};" if letter in _SPECIAL and not _is_inside_word(before, letter, after) else letter
        for before, letter, after in around
    )


def _is_inside_word(before: str, letter: str, after: str) -> bool:
    """Whether a special letter stands inside a word or behind it, where markdown gives it no meaning."""
    return before.isalnum() and (after.isalnum() or (letter == ":" and after == " ")) and letter in "_-+:"


def quoted(text: object) -> str:
    """A double-quoted YAML string on one line, which no text can end."""
    safe = (
        letter if letter.isprintable() and letter not in '"\\' else f"\\U{ord(letter):08x}"
        for letter in str(text)[:500]
    )
    return f'"{"".join(safe)}"'
