"""What the workflow's rules ask of a suite: patterns, files, options, hashes of code. Snakemake's own is in common.smk.

Imported while the DAG is built: neither torch nor numpy.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from daar.data import pack_files
from daar.report import literature
from daar.run import code, reuse
from daar.run.contents import Contents
from daar.storage import files
from daar.suite import figures, paths
from daar.suite.definition import Setting, Suite

# matches nothing
_NONE = "(?!)"
_MODEL = ("model.safetensors", "model.json")
# ending of a table's name → its caption in workflow/report; a table of an ablation is named after its method
_PAGES = {"": "table", "-costs": "costs"}
_ABLATION = "ablation"


class Dag:
    """A suite as the rules see it.

    Methods that take `wildcards` are input functions and params: Snakemake calls them for every job.

    Args:
        suite: the experiment.
        in_job: whether this is a job that another Snakemake submitted. That one compares params and notes them; here no
            hash is worked out, which would take longer than all else that is read.

    Attributes:
        settings: path below the suite's folder → the setting.
        reused: path of a setting → the kept record that is reused for it.
        results: folder of the suite's results.
        pack: pattern of a packed data set's folder.
        dense_network: pattern of a dense network's folder.
        variant: pattern of a variant's folder, for one seed.
        setting: pattern of a setting's folder.
        stability: pattern of the files on how many images a variant needs, without their ending.
        pairs: `<dataset>-<network>`, as tables and figures are named.
        published: those of them that papers have results for.
        figures: kinds of figures that each of them has.
        explained: the settings that have attention pictures.

    Raises:
        InputError: a kept record is damaged.
    """

    def __init__(self, suite: Suite, *, in_job: bool = False) -> None:
        self.suite, self._in_job = suite, in_job
        self._contents = Contents(Path(paths.PROVENANCE, "packs.json"))
        self.settings: Mapping[str, Setting] = {setting.path: setting for setting in suite.settings}
        self.reused: Mapping[str, Path] = reuse.found(suite)
        self.results = f"{paths.RESULTS}/{suite.name}"
        self.pack = f"{paths.PACKS}/{{dataset}}"
        self.dense_network = f"{paths.DENSE}/{paths.DENSE_NETWORK}"
        self.variant, self.setting, self.stability = (
            f"{self.results}/{pattern}" for pattern in (paths.VARIANT, paths.SETTING, paths.STABILITY)
        )
        pairs = {f"{dataset}-{network}": (dataset, network) for dataset in suite.datasets for network in suite.networks}
        self.pairs = tuple(pairs)
        self.published = tuple(name for name, pair in pairs.items() if pair in literature.pairs())
        self.figures = figures.kinds(suite)
        self.explained = tuple(figures.explained(suite).values())

    # patterns

    @property
    def wildcards(self) -> dict[str, str]:
        """Wildcard → the regular expression that constrains it in every rule."""
        return {
            "dataset": _any_of(self.suite.datasets),
            "network": _any_of(self.suite.networks),
            "variant": _any_of(variant.name for variant in self.suite.variants),
            "seed": r"\d+",
            "recipe": f"{paths.TRAINED}|{paths.IMPORTED}",
            "scope": self.suite.scope,
            "target": paths.TARGET,
        }

    @property
    def own_data(self) -> str:
        """Regular expression of the datasets of one's own."""
        return _any_of(self.suite.own_data)

    def variants_of(self, *methods: str) -> str:
        """Regular expression of the variants in one shot that use one of these methods or controls."""
        return _any_of(v.name for v in self.suite.variants if v.method in methods and v.schedule is None)

    def variants_but(self, *methods: str) -> str:
        """Regular expression of the variants in one shot that use none of these methods or controls."""
        return _any_of(v.name for v in self.suite.variants if v.method not in methods and v.schedule is None)

    @property
    def scheduled(self) -> str:
        """Regular expression of the variants by a schedule other than one-shot."""
        return _any_of(v.name for v in self.suite.variants if v.schedule is not None)

    def reused_settings(self, *, scratch: bool) -> str:
        """Regular expression of the settings whose kept record is reused: networks from scratch, or all others."""
        return _any_of(path for path in self.reused if scratch == _is_scratch(self.settings[path]))

    # files

    def packs(self, wildcards: Any) -> list[str]:
        """The files of a data set that a run may see before it is measured."""
        train, val, _, source = self._pack_files(wildcards.dataset)
        return [train, val, source]

    def test_pack(self, wildcards: Any) -> str:
        """The images that only measuring sees."""
        return self._pack_files(wildcards.dataset)[2]

    def dense(self, wildcards: Any) -> str:
        """Folder of the dense network that a setting starts from."""
        return self._dense(wildcards.dataset, wildcards.network, int(wildcards.seed))

    def dense_files(self, wildcards: Any) -> list[str]:
        """The checkpoint of that network."""
        return [f"{self.dense(wildcards)}/{name}" for name in _MODEL]

    def first_dense_files(self, wildcards: Any) -> list[str]:
        """The checkpoint of the dense network of the suite's first seed."""
        folder = self._dense(wildcards.dataset, wildcards.network, self.suite.seeds[0])
        return [f"{folder}/{name}" for name in _MODEL]

    def weights(self, wildcards: Any) -> str:
        """The file to import."""
        return self.suite.weights(wildcards.network)

    def kept(self, wildcards: Any) -> str:
        """The kept record of a setting."""
        return str(self.reused[wildcards.setting])

    def plan_of_origin(self, wildcards: Any) -> str:
        """The plan of the variant whose widths a control takes."""
        origin = self.suite.variant(wildcards.variant).of
        return f"{self.setting}/plan.json".format(**{**wildcards, "variant": origin})

    def of_settings(self, name: str) -> list[str]:
        """A file of every setting."""
        return [f"{self.results}/{path}/{name}" for path in self.settings]

    def figure_inputs(self, kind: str) -> list[str]:
        """The files that a kind of figure reads in addition to results.csv."""
        if kind == "pruning-ratios":
            planned = (path for path, setting in self.settings.items() if not _is_scratch(setting))
            return [f"{self.results}/{path}/plan.json" for path in planned]
        if kind == "tuning-curves":
            return self.of_settings("record.json")
        if kind == "rank-correlation":
            scored = set(figures.scored(self.suite))
            folders = {Path(path).parent for path, setting in self.settings.items() if setting.variant.name in scored}
            return [f"{self.results}/{folder}/importance.safetensors" for folder in sorted(folders)]
        return []

    @property
    def pages(self) -> dict[str, str]:
        """Ending of a table's name → the name of its caption."""
        return {**_PAGES, **{f"-{_ABLATION}-{method}": _ABLATION for method in self.suite.ablations}}

    # params

    def code(self, stage: str) -> Callable[[Any], str]:
        """A param with the hash of what defines a stage's result; `stage` as in daar/run/code.py."""

        @functools.cache
        def of(network: str | None, variant: str | None, policy: str | None, dataset: str | None) -> str:
            method = None
            if variant is not None:
                method = self.suite.methods.get(self.suite.variant(variant).method)  # a control has none
            return code.of(
                stage, network=network, method=method, policy=policy, dataset=dataset,
                methods_dirs=self.suite.methods_dirs,
            )  # fmt: skip

        def hashed(wildcards: Any) -> str:
            if self._in_job:
                return ""
            return of(*(getattr(wildcards, name, None) for name in ("network", "variant", "policy", "dataset")))

        return hashed

    def packs_content(self, wildcards: Any) -> list[str]:
        """SHA-256 of the files of `packs`, whose dates count for nothing."""
        return self._content_of(self.packs(wildcards))

    def all_packs_content(self, wildcards: Any) -> list[str]:
        """SHA-256 of the files of `packs` and of the test images."""
        return self._content_of([*self.packs(wildcards), self.test_pack(wildcards)])

    def weights_content(self, wildcards: Any) -> list[str]:
        """SHA-256 of the file to import; none where it is absent, which stops a run but no dry run."""
        file = Path(self.weights(wildcards))
        return [files.sha256(file)] if file.is_file() else []

    def kept_content(self, wildcards: Any) -> str:
        """SHA-256 of the kept record of a setting."""
        return files.sha256(self.reused[wildcards.setting])

    def own_data_options(self, wildcards: Any) -> list[str]:
        """The options of `daar data prepare` that say what a dataset of one's own is."""
        entry = self.suite.own_data[wildcards.dataset]
        switches = {True: "--{}", False: "--no-{}"}
        return [
            switches[value].format(key) if isinstance(value, bool) else f"--{key}={value}"
            for key, value in entry.items()
        ]

    def import_options(self, wildcards: Any) -> list[str]:
        """The options of `daar import`."""
        return self.suite.base[wildcards.network].options

    def method_options(self, wildcards: Any) -> list[str]:
        """The options that tell a stage which method, with which options, from which folders.

        With `=`, so that a value may begin with a dash.
        """
        variant = self.suite.variant(wildcards.variant)
        told = [f"--method={variant.method}", f"--options={json.dumps(dict(variant.options))}"]
        told += [f"--of={variant.of}"] if variant.of else []
        return [*told, *(f"--methods-dir={folder}" for folder in self.suite.methods_dirs)]

    def recorded_options(self, wildcards: Any) -> list[str]:
        """Those, and the options of the policy."""
        return [*self.method_options(wildcards), *self._policy_options(wildcards)]

    def schedule_options(self, wildcards: Any) -> list[str]:
        """The schedule, and the option that tells its options."""
        schedule = self.suite.variant(wildcards.variant).schedule
        assert schedule is not None
        return [schedule.name, f"--schedule-options={json.dumps(schedule.given)}"]

    def target_options(self, wildcards: Any) -> list[str]:
        """The options with a setting's target (none for the policy's own rate), widths, ratios or policy options."""
        own, step = paths.target_from_text(wildcards.target) is None, self.suite.round_to
        told = [] if own else [f"--macs-reduction={wildcards.target}"]
        told += [] if step == 1 else [f"--round-to={step}"]
        return [*told, *self._ratios(wildcards)]

    def _ratios(self, wildcards: Any) -> list[str]:
        """Own ratios, or the options of the policy."""
        spec = self.suite.ratios.get(getattr(wildcards, "policy", ""))
        if spec is None:
            return self._policy_options(wildcards)
        return [f"--ratios={spec if isinstance(spec, str) else json.dumps(dict(spec))}"]

    def _policy_options(self, wildcards: Any) -> list[str]:
        given = dict(self.suite.variant(wildcards.variant).policy_options)
        return [f"--policy-options={json.dumps(given)}"] if given else []

    def budget(self, wildcards: Any) -> Any:
        """What a network from scratch is given as much of as the other had: epochs, or compute."""
        return dict(self.suite.variant(wildcards.variant).options)["budget"]

    def made_from(self, wildcards: Any) -> str:
        """What `daar.run.reuse` knows a setting's record by."""
        path = Path(self.setting.format(**wildcards)).relative_to(self.results)
        return reuse.made_from(self.suite, self.settings[str(path)])

    def _content_of(self, packs: list[str]) -> list[str]:
        """Nothing in a job, as for `code`. Not made from the job's inputs: Snakemake does not compare such params."""
        return [] if self._in_job else [self._contents.of(file) for file in packs]

    @functools.cache  # noqa: B019  # as below
    def _pack_files(self, dataset: str) -> tuple[str, ...]:
        """Of train, val and test, and of where they are from."""
        folder = Path(self.pack.format(dataset=dataset))
        images = (pack_files.split_file(folder, split) for split in ("train", "val", "test"))
        return tuple(str(file) for file in (*images, folder / pack_files.SOURCE))

    @functools.cache  # noqa: B019  # one for each run of Snakemake, which asks for every job
    def _dense(self, dataset: str, network: str, seed: int) -> str:
        return f"{paths.DENSE}/{self.suite.dense_path(dataset, network, seed)}"


def _any_of(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names)) or _NONE


def _is_scratch(setting: Setting) -> bool:
    """Whether it is a network from scratch, which has its plan from another setting."""
    return setting.variant.method == "scratch_of"
