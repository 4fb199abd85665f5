"""Names of a prepared dataset's files: one per split, and a note on the images' source. Imports nothing heavy."""

from pathlib import Path

RESULT_NEUTRAL = "says where files lie, not what is in them"

SPLITS = ("train", "val", "test")
SOURCE = "source.json"


def split_file(folder: Path | str, split: str) -> Path:
    """The file of a split, packed images or an index of them, in the folder of a prepared dataset."""
    return Path(folder) / f"{split}.safetensors"
