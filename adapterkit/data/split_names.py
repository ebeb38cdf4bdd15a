"""The splits of a data set, and what data sets call them."""

_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}


def split_of(name: str) -> str:
    """The split that a name is usual for, or ""."""
    return _SPLIT_OF.get(name.lower(), "")
