"""What every method's block has in common, and what is asked of it where no torch is."""

from typing import Any, ClassVar

from adapterkit.recipe.settings import Settings


class MethodSettings(Settings):
    """What is attached to the backbone, and where. Every method derives its own settings from this."""

    implementation: ClassVar[str] = ""
    """Of a method that another package brings: "package.module:name" of its `methods.protocol.Method`."""
    packer: ClassVar[str] = ""
    """Likewise of what packs it for a host; "" where a host cannot mount it."""
    attaches: ClassVar[bool] = True
    """Whether anything is attached; false for a head alone."""

    kind: str
    """Which method."""

    @property
    def words(self) -> str:
        """What it is, as in "a … adapter": "rank-8 LoRA"."""
        return self.kind

    @property
    def reads_weights(self) -> bool:
        """Whether what is attached begins with numbers of the backbone's, so that these have to stand in its format."""
        return True

    @property
    def label(self) -> str:
        """The same in one word, for tables: "lora"."""
        return self.kind

    @property
    def computes(self) -> str:
        """What of the settings an answer depends on, beside the tensors."""
        return self.words

    def size_at(self, hidden_size: int) -> int | None:
        """The largest rank, or the width of the middle, on a backbone of this width; None where there is neither."""
        return None

    def part_folders(self) -> tuple[str, ...]:
        """The folders of the artifacts that it is made of; () for all but a fusion."""
        return ()

    def portable(self) -> dict[str, Any]:
        """The block as an artifact keeps it: JSON values, and no folder of this machine."""
        return self.model_dump(mode="json")
