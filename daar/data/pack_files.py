"""The files of a packed data set. Imported while the DAG is built: neither torch nor numpy."""

from pathlib import Path

SPLITS = ("train", "val", "test")
# where the images came from, next to the splits
SOURCE = "source.json"


def split_file(folder: Path | str, split: str) -> Path:
    """The file of a split in the folder of its data set."""
    return Path(folder) / f"{split}.safetensors"
