"""The data sets of the suite: classes, counts, splits, sources. Imports neither torch nor numpy."""

from dataclasses import dataclass

from daar.errors import unknown

RESULT_NEUTRAL = "facts of a registry; results name the dataset, and a pack carries its checksum"
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# the fine ones, as its meta file spells them; the twenty coarse classes are not used
_CIFAR100_CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)


@dataclass(frozen=True)
class Dataset:
    """One data set: its classes, its official counts and the suite's splits.

    Attributes:
        name: short name, as in suites and paths.
        title: name for tables.
        classes: official class names, in label order; none where images stay in a folder, whose names are used.
        shape: (C, H, W) of the images, as networks read them.
        official_train: images in the official train part; all images where there is only one part.
        official_test: images in the official test part; 0 when there is only one part.
        train: images in our train split.
        val: images in our val split, held out of the official train part.
        test: images in our test split, which only `measure` reads.
        flip: whether a mirrored image is still one of its class.
        sources: kinds of source that it can be read from, the preferred one first.
        torchvision_class: name in `torchvision.datasets`, for the source "torchvision".
        torchvision_folder: folder that this class reads, below the data root.
        label_column: name of the label column, for the source "parquet".
        folder_classes: official number of classes where `classes` is empty.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    official_train: int
    official_test: int
    train: int
    val: int
    test: int
    flip: bool
    sources: tuple[str, ...]
    torchvision_class: str = ""
    torchvision_folder: str = ""
    label_column: str = "label"
    folder_classes: int = 0

    def __post_init__(self) -> None:
        held_out = self.val if self.official_test else self.val + self.test
        assert self.train + held_out == self.official_train, f"{self.name}: the split does not add up"
        assert not self.official_test or self.test == self.official_test, f"{self.name}: test is not the official test"

    @property
    def num_classes(self) -> int:
        """Number of classes of the official release."""
        return len(self.classes) or self.folder_classes

    @property
    def stays_in_folder(self) -> bool:
        """Whether images are not packed but decoded from their files when needed."""
        return self.sources == ("image-folder",)

    @property
    def official(self) -> dict[str, int]:
        """Images in each official part: "train" and, if there is one, "test"."""
        counts = {"train": self.official_train, "test": self.official_test}
        return {part: count for part, count in counts.items() if count}

    @property
    def splits(self) -> dict[str, int]:
        """Images in each of our splits: "train", "val" and "test"."""
        return {"train": self.train, "val": self.val, "test": self.test}


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="digits",
            title="Digits",
            classes=tuple("0123456789"),
            shape=(3, 32, 32),
            official_train=1_797,
            official_test=0,
            train=1_257,
            val=180,
            test=360,
            flip=False,
            sources=("scikit-learn",),
        ),
        Dataset(
            name="cifar10",
            title="CIFAR-10",
            classes=_CIFAR10_CLASSES,
            shape=(3, 32, 32),
            official_train=50_000,
            official_test=10_000,
            train=45_000,
            val=5_000,
            test=10_000,
            flip=True,
            sources=("torchvision", "folder", "parquet"),
            torchvision_class="CIFAR10",
            torchvision_folder="cifar-10-batches-py",
        ),
        Dataset(
            name="cifar100",
            title="CIFAR-100",
            classes=tuple(_CIFAR100_CLASSES.split()),
            shape=(3, 32, 32),
            official_train=50_000,
            official_test=10_000,
            train=45_000,
            val=5_000,
            test=10_000,
            flip=True,
            sources=("torchvision", "folder", "parquet"),
            torchvision_class="CIFAR100",
            torchvision_folder="cifar-100-python",
            label_column="fine_label",
        ),
        # 50 of each class held out
        Dataset(
            name="imagenet",
            title="ImageNet",
            classes=(),
            shape=(3, 224, 224),
            official_train=1_281_167,
            official_test=50_000,
            train=1_231_167,
            val=50_000,
            test=50_000,
            flip=True,
            sources=("image-folder",),
            folder_classes=1_000,
        ),
    )
}


_own: dict[str, Dataset] = {}


def register(dataset: Dataset) -> None:
    """Have a dataset of one's own known by its name, instead of one that had it before."""
    _own[dataset.name] = dataset


def title(name: str) -> str:
    """How tables print a data set; of one that is not known its name."""
    known = {**_own, **DATASETS}
    return known[name].title if name in known else name


def is_known(name: str) -> bool:
    """Whether there is a data set of that name, of ours or of one's own."""
    return name in DATASETS or name in _own


def num_classes(name: str) -> int:
    """Number of classes of a data set.

    Raises:
        InputError: there is none of that name; the message lists the known ones.
    """
    return get(name).num_classes


def get(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        InputError: there is none of that name; the message lists the known ones.
    """
    if not is_known(name):
        hint = "One of your own: `daar data prepare NAME --folder DIR --size 64`, or datasets in a suite."
        raise unknown("dataset", name, [*DATASETS, *_own], hint)
    return DATASETS[name] if name in DATASETS else _own[name]
