"""Where the images of a data set can be, and whether they are there.

Reads only names of files and imports nothing heavy, so that a run can be refused in milliseconds. The data root is the
argument, else the environment variable DAAR_DATA_ROOT, else ./data. A data set is looked for in `<root>/<dataset>/`,
then in `<root>/`:

- torchvision: the folder that torchvision's download leaves (`cifar-10-batches-py/`,
  `cifar-100-python/`);
- folder: image files as `train/<class>/*` and `test/<class>/*`;
- parquet: `train*.parquet` and `test*.parquet`, in the Hugging Face layout;
- image-folder: image files as `train/<class>/*` and `val/<class>/*`, which stay there (ImageNet);
- scikit-learn: comes with the package (digits).

If several are there, the first in `Dataset.sources` is taken (torchvision, folder, parquet: the most likely to be the
official pixels first), and of one kind the one in `<root>/<dataset>/`.
"""

import importlib.util
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from daar.data.datasets import Dataset
from daar.errors import InputError, in_one_line, unknown

DOWNLOAD_HOST = ("www.cs.toronto.edu", 443)
ANSWER_WITHIN_S = 3.0
# folders that a message names, and characters of each
_NAMED, _LONGEST_NAME = 3, 40


@dataclass(frozen=True)
class Source:
    """A source that is there.

    Attributes:
        kind: one of `Dataset.sources`.
        path: the folder that holds its files.
    """

    kind: str
    path: Path


def resolve_root(data_root: Path | None) -> Path:
    """The data root: the argument, else DAAR_DATA_ROOT if not empty, else ./data."""
    return Path(data_root or os.environ.get("DAAR_DATA_ROOT") or "data")


def places(dataset: Dataset, data_root: Path | None) -> tuple[Path, Path]:
    """The folders in which a data set is looked for, in order."""
    root = resolve_root(data_root)
    return root / dataset.name, root


def locate(dataset: Dataset, data_root: Path | None = None, source: str = "auto") -> Source | None:
    """Find a data set on this machine, without opening any of its files.

    Args:
        dataset: which one.
        data_root: folder to look in; see the module's docstring.
        source: one kind of source, or "auto" for any.

    Returns:
        The preferred source that is there, or None.

    Raises:
        InputError: the data set has no such kind of source, or a folder cannot be read.
    """
    if source not in ("auto", *dataset.sources):
        raise unknown(f"source of {dataset.name}", source, ["auto", *dataset.sources])
    kinds = dataset.sources if source == "auto" else (source,)
    for kind in kinds:
        for place in places(dataset, data_root):
            try:
                path = _PROBES[kind](dataset, place)
            except OSError as error:
                raise InputError(
                    f"cannot look into {place}: {error.strerror}. Fix it, or name another data root."
                ) from error
            if path is not None:
                return Source(kind, path)
    return None


def not_found(dataset: Dataset, data_root: Path | None = None) -> InputError:
    """The error for a data set that `locate` did not find: what was expected, where, and what to do."""
    looked_in = " and ".join(str(place) for place in places(dataset, data_root))
    looked_for = {
        "torchvision": f"{dataset.torchvision_folder}/ (torchvision)",
        "folder": "train/<class>/ and test/<class>/ (folder)",
        "parquet": "train*.parquet and test*.parquet (parquet)",
        "image-folder": "train/<class>/ and val/<class>/ (image-folder)",
        "scikit-learn": "the package scikit-learn",
    }
    wanted = ", ".join(looked_for[kind] for kind in dataset.sources)
    remedies = ["Put it there", "name its folder with --data-root or DAAR_DATA_ROOT"]
    if "torchvision" in dataset.sources:
        remedies.append("let --download fetch it")
    remedy = ", ".join(remedies[:-1]) + " or " + remedies[-1]
    if others := _other_classes(dataset, data_root):
        folder, names = others
        return InputError(
            f"{folder} holds folders of other classes than {dataset.title}'s: {', '.join(names)}. Images of your own "
            f"are a dataset of your own: daar data prepare NAME --folder DIR --size {dataset.shape[1]}"
        )
    return InputError(f"{dataset.title} is not there: expected one of {wanted}; looked in {looked_in}. {remedy}.")


def _other_classes(dataset: Dataset, data_root: Path | None) -> tuple[Path, list[str]] | None:
    """A folder where a data set was looked for as images, and some of the folders in it, none of them its classes."""
    if "folder" not in dataset.sources:
        return None
    own, root = places(dataset, data_root)
    for folder in (own / "train", own, root / "train"):
        try:
            names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            continue
        others = [name for name in names if name not in ("train", "val", "test")]
        if len(others) > 1:
            shown = [in_one_line(name, _LONGEST_NAME) for name in others[:_NAMED]]
            return folder, [*shown, *([f"{len(others) - _NAMED} more"] if others[_NAMED:] else [])]
    return None


def reachable() -> bool:
    """Whether the host that torchvision downloads from (or the proxy to it) answers within 3 seconds; never raises."""
    answered = threading.Event()

    def knock() -> None:
        try:
            with socket.create_connection(_endpoint(), timeout=ANSWER_WITHIN_S):
                answered.set()
        except (OSError, ValueError):
            return

    # a name lookup has no timeout, so it runs in a thread that is waited for
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN_S)
    return answered.is_set()


def _endpoint() -> tuple[str, int]:
    """Host and port that a download would connect to first."""
    from urllib.request import getproxies

    proxy = getproxies().get("https")
    if not proxy:
        return DOWNLOAD_HOST
    url = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return url.hostname or "", url.port or 80


def _torchvision(dataset: Dataset, place: Path) -> Path | None:
    folder = place / dataset.torchvision_folder
    return folder if folder.is_dir() else None


def _folder(dataset: Dataset, place: Path) -> Path | None:
    # one known class is enough: what else is missing is then reported of this folder
    there = any((place / part / name).is_dir() for part in dataset.official for name in dataset.classes)
    return place if there else None


def _image_folder(_dataset: Dataset, place: Path) -> Path | None:
    # one class in one part is enough: what else is missing is then reported of this folder
    parts = [place / part for part in ("train", "val")]
    return place if any(entry.is_dir() for part in parts if part.is_dir() for entry in part.iterdir()) else None


def _parquet(dataset: Dataset, place: Path) -> Path | None:
    there = any(next(place.glob(f"{part}*.parquet"), None) for part in dataset.official)
    return place if there else None


def _scikit_learn(_dataset: Dataset, _place: Path) -> Path | None:
    spec = importlib.util.find_spec("sklearn")  # finds the package without importing it
    return Path(spec.origin).parent if spec and spec.origin else None


_PROBES: dict[str, Callable[[Dataset, Path], Path | None]] = {
    "torchvision": _torchvision,
    "folder": _folder,
    "image-folder": _image_folder,
    "parquet": _parquet,
    "scikit-learn": _scikit_learn,
}
