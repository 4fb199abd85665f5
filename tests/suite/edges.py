"""Suites at the edge of what the schema allows, and what lies just beyond."""

import copy
from typing import Any

from hypothesis import strategies as st

SMALL: dict[str, Any] = {
    "suite": "edge",
    "datasets": ["digits"],
    "networks": ["resnet20"],
    "methods": ["l1", "daar"],
    "macs_reductions": [0.5],
    "seeds": [0],
    "finetune": {"epochs": 1},
}
LONG = "".join(map(str, range(60)))[:100]
NAMES = st.sampled_from(["a", "0", "a-_0", "data0", LONG, "l1-", "a" * 19, "on", "null", "1e3", "2024-01-01", "own"])
# any text of a file system but braces, which Snakemake formats in params
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
FREE = PATHS | st.sampled_from(
    ["x" * 255, "é" * 127, "x/" * 512, 'o\'brien "data"', "-n", "$(touch x)", "a;b\nc", "~", " "]
)
TARGETS = st.floats(0, 1, exclude_min=True, exclude_max=True) | st.sampled_from(
    [5e-324, 1e-310, 1e-05, 9.999e-05, 0.0001, 0.1, 0.1 + 2**-56, 0.1234567, 0.12345678, 0.9999999, 1 - 2**-53]
)
SEEDS = st.integers(0, 2**32 - 1) | st.sampled_from([0, 2**31, 2**32 - 1])
RECIPES = st.fixed_dictionaries(
    {"epochs": st.sampled_from([1, 2, 10**6]), "batch_size": st.sampled_from([4, 128, 65536])},
    optional={
        "lr": st.sampled_from([1, 1e-300, 0.1, 10**6]),
        "schedule": st.sampled_from(["constant", "cosine"]),
        "gamma": st.sampled_from([1e-300, 1e6]),
        "warmup_epochs": st.sampled_from([0, 0.5, 1]),
        "momentum": st.sampled_from([0.1, 0.999]),
        "weight_decay": st.sampled_from([0, 1e-300, 1e6]),
        "padding": st.sampled_from([0, 256]),
        "flip": st.booleans(),
        "precision": st.sampled_from(["auto", "bf16", "float32"]),
    },
)
VARIANTS = st.dictionaries(
    NAMES,
    st.sampled_from(
        [{"method": "random"}, {"method": "l1", "policy": "adaptive"}, {"random_at": "l1"}, {"scratch_of": "daar"},
         {"method": "daar", "options": {"attention": "swapped"}}, {"scratch_of": "l1", "budget": "compute"}]
    ),
    max_size=3,
)  # fmt: skip
BASES = st.fixed_dictionaries(
    {"file": FREE},
    optional={
        "url": st.sampled_from(["", "https://example.org/a b'c"]),
        "mean": st.just([0, 0.5, 1]),
        "std": st.just([0.001, 0.5, 1]),
        "trained_on": st.sampled_from([[], ["train", "val", "test"]]),
    },
)
VALID = st.fixed_dictionaries(
    {
        "suite": NAMES,
        "datasets": st.just(["digits"]) | st.just(["digits", "cifar10"]),
        "networks": st.just(["resnet20"]) | st.just(["resnet20", "resnet56"]),
        "methods": st.just(["l1", "daar"]),
        "macs_reductions": st.lists(TARGETS, min_size=1, max_size=3, unique_by="{:.6g}".format),
        "seeds": st.lists(SEEDS, min_size=1, max_size=3, unique=True),
        "train": RECIPES,
        "finetune": RECIPES | st.just("chip"),
    },
    optional={
        "description": PATHS,
        "variants": VARIANTS,
        "policies": st.sampled_from([["uniform"], ["adaptive", "uniform"]]),
        "scope": st.sampled_from(["inner", "all"]),
        "round_to": st.sampled_from([1, 8, 65536]),
        "calibration_images": st.sampled_from([2, 640]),
        "base": st.fixed_dictionaries({"resnet20": BASES}),
        "stability": st.sampled_from([{"images": [2]}, {"images": [2, 40], "seeds": 100, "macs_reduction": 5e-324}]),
        "latency": st.booleans(),
        "data_root": FREE,
        "allow_cpu": st.booleans(),
        "slots_per_gpu": st.sampled_from([1, 100]),
        "distributed": st.sampled_from([{"processes": 2}, {"processes": 2, "nodes": 2}]),
        "reuse": st.booleans(),
        "methods_dirs": st.just([]),
    },
)
# keys → values that are refused in a suite that is valid otherwise
_BEYOND: list[tuple[str, list[Any]]] = [
    ("seeds", [[0.0], [True], [2**32], [2**64], [-1], [0, 0], ["a"], [], [None], 0, list(range(1001))]),
    ("macs_reductions", [[0.1, 0.1 + 2**-56], [0.1234567, 0.12345671], [0.9999999, 1 - 2**-53]]),
    ("macs_reductions", [[0.5, 0.5], [0], [1], [1.0], ["x"], [True], [], 0.5, [-0.1], [None]]),
    ("suite", ["data", "dense", "reference", "bench", "A", "a\n", "\na", "", "a" * 101, "-a", "a/b"]),
    ("suite", ["..", "a b", "é", "a'", 1, None, ["a"], 1.5, True]),
    ("variants", [{name: {"method": "random"}} for name in ("", "a\n", "A", "a/b", "a b", "é", "..", "a" * 101, "l1")]),
    ("variants", [{name: {"method": "random"}} for name in ("a" * 20, "x" + "ab" * 20, "abc" * 30)]),
    ("variants", [{"a": {"method": "random\n"}}, {"a": {}}, {"a": None}, ["a"], {"a": {"random_at": "a"}}]),
    ("train", [{"epochs": value} for value in (1.0, 10**30, 10**6 + 1, -1, True, "x", None)]),
    ("finetune", [{"batch_size": value} for value in (128.0, 10**30, 65537, 1, 0, -2, False, "2x")]),
    ("finetune", [{"padding": value} for value in (1.0, 10**30, 257, -1, True)]),
    ("finetune", [{"lr": value} for value in (0, -1, 10**30, 1e7, True, "fast", None)]),
    ("finetune", [{"distillation": 1, "temperature": value} for value in (10**30, 1e7, 0, 1e-7, -1)]),
    (
        "finetune",
        [{"epochs": 3, "schedule": "step", "milestones": value} for value in ([1.0], [2, 1], [0], [10**30], 1, [[1]])],
    ),
    ("finetune", [{"epochs": 1, "warmup_epochs": 2}, {"epocs": 1}, "nobody", 1, [], {"recipe": 1}]),
    ("calibration_images", [2.0, 1, 10**30, 10**8, True, "many", 10**6]),
    ("data_root", ["", "a\0b", "x" * 256, "é" * 128, "x/" * 513, 1, None, ["a"]]),
    ("methods_dirs", [["no such folder"], ["x" * 256], ["a\0"], [""], "a", [1]]),
    ("base", [{"resnet20": {"file": value}} for value in ("", "a\0b", "x" * 256, 1, None)]),
    (
        "base",
        [
            {"resnet20": {"file": "a", "mean": value}}
            for value in ([], [0.5], [0.5, 0.5], [0.5] * 4, [0.5, 0.5, 1e30], [0.5, 0.5, 1.5], [0.5, -0.1, 0], 0.5)
        ],
    ),
    (
        "base",
        [
            {"resnet20": {"file": "a", "std": value}}
            for value in ([], [0.5], [0, 1, 1], [-1, 1, 1], [1e-30, 1, 1], [0.0009, 1, 1])
        ],
    ),
    ("base", [{"resnet21": {"file": "a"}}, {"resnet20": {}}, {"resnet20": None}, ["resnet20"]]),
    ("slots_per_gpu", [0, 1.0, 101, 10**30, True]),
    ("distributed", [{"processes": value} for value in (1, 2.0, 3, 10**30, True)]),
    ("stability", [{"images": value} for value in ([], [1], [2.0], [2, 2], [10**30], 5)]),
    ("stability", [{"images": [2], "seeds": value} for value in (1, 2.0, 101, 10**30)]),
    ("methods", [["l1", "l1"], [], ["l3"], ["l1\n"], [1], ["x" * 256], "l1"]),
    ("datasets", [["digits", "digits"], ["mnist"], ["digits\n"], [], "digits"]),
    ("networks", [["resnet20", "resnet20"], ["resnet21"], ["resnet20 "], []]),
    ("policies", [["uniform", "uniform"], ["best"], [], ["uniform\n"], [None]]),
    ("description", [1]),
    ("description", ["x" * 100_001]),
    ("latency", [1]),
    ("reuse", ["perhaps"]),
    ("scope", ["outer"]),
    ("round_to", [0, 1.5, 65537, "eight", None]),
    ("Suite", ["a"]),
    ("__use_yte__", [True]),
]
WRONG = [(key, value) for key, values in _BEYOND for value in values]


def wrong(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A suite with one value that is wrong."""
    return {**copy.deepcopy(content), key: value}
