"""Scores, plans and tuned networks of a suite, by today's code and by an earlier checkout's, compared to the bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import datasets, loading
from daar.data.calibration import calibration_batch
from daar.data.pack_files import SOURCE, split_file
from daar.errors import InputError
from daar.methods import discovery
from daar.pruning import importance, scoring
from daar.pruning import plan as plans
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.plan import Plan
from daar.pruning.planning import plan_by_policy
from daar.pruning.policy import Loss
from daar.pruning.policy_arguments import as_own
from daar.pruning.random_at import random_at
from daar.pruning.scoring import Batch
from daar.pruning.shapes import shapes_of
from daar.run.checkout import Checkout
from daar.stages.import_weights import import_weights
from daar.storage import documents, files
from daar.storage.bundled import PACKAGE
from daar.storage.documents import require_file
from daar.suite import paths
from daar.suite.definition import Setting, Suite, Variant


class BothCodes:
    """Makes results of a suite by two checkouts. All run on one CPU thread, since its sums depend on their number.

    Args:
        suite: the experiment.
        earlier: the other checkout.
        results: folder with the packed datasets and dense networks of the suite.
        reference: folder of kept results.
        scratch: folder for what is made here.
    """

    def __init__(self, suite: Suite, earlier: Checkout, results: Path, reference: Path, scratch: Path) -> None:
        torch.set_num_threads(1)
        self.suite, self.earlier = suite, earlier
        self._results, self._reference, self._scratch = results, reference, scratch
        self._methods = discovery.find(suite.methods_dirs)
        # made once: by dense network, seed and variant as far as they follow from these
        self._networks: dict[Path, tuple[nn.Module, Description, ChannelGraph]] = {}
        self._batches: dict[tuple[Path, int], Batch] = {}
        self._scored: dict[tuple[Path, int, str], dict[str, Tensor]] = {}
        self._losses: dict[tuple[Path, int], Loss] = {}

    def dense_sha256(self, setting: Setting) -> str:
        """Of the weights of the dense network that a setting starts from."""
        return files.sha256(require_file(self._base(setting) / "model.safetensors", "a dense network"))

    def compare_scores(self, setting: Setting) -> str:
        """What the scores of both are: in words.

        Raises:
            InputError: they differ, or the method is a program of its own.
        """
        origin = self.suite.origin(setting.variant)
        if self._methods[origin.method].scores is None:
            raise InputError(f"method {origin.method!r} is a program of its own, which is not run here")
        now, before = self._scores(setting), importance.load(self._earlier_scores(setting))
        if now.keys() != before.keys() or not all(torch.equal(now[layer], before[layer]) for layer in now):
            raise InputError(f"today's code gives other scores by {origin.name!r} than the earlier code")
        return "the same bits by both"

    def compare_plans(self, setting: Setting, kept: Path) -> str:
        """How today's plan compares with the one that is kept: in words.

        Raises:
            InputError: it is another, and the earlier code does not make today's here either.
        """
        plan = json.loads(json.dumps(plans.to_json(self._plan(setting))))
        if plan == documents.read_json(kept, "a kept plan"):
            return "as kept"
        if plan == self._earlier_plan(setting):
            return "the same by both, but not as kept: made on another CPU"
        raise InputError("today's code makes a plan that is neither the kept one nor what the earlier code makes here")

    def tunes_alike(self, setting: Setting) -> bool:
        """Whether both tune a setting to the same weights, byte by byte, and measure the same of them."""
        command = [*self._tuning(setting), *self._images(setting), "--seed", str(setting.seed)]
        made = []
        for name, checkout in (("before", self.earlier), ("now", Checkout(PACKAGE.parent))):
            out = self._scratch / name / setting.path
            checkout.run([*command, "--out", str(out)])
            checkout.run(["measure", str(out), *self._packs(setting), "--out", str(out / "measured.json")])
            made.append([files.sha256(out / file) for file in ("model.safetensors", "measured.json")])
        return made[0] == made[1]

    # what commands are told

    def _tuning(self, setting: Setting) -> list[str]:
        """The command that tunes a setting, or trains its network from scratch."""
        if not is_scratch(setting):
            recipe = json.dumps(self.suite.finetune.to_json())
            plan = str(self._kept_plan(setting))
            return ["finetune", str(self._base(setting)), "--plan", plan, "--recipe", recipe]
        plan = str(self._kept_plan(replace(setting, variant=self.suite.origin(setting.variant))))
        recipe, epochs = json.dumps(self.suite.train.to_json()), str(self.suite.finetune.epochs)
        command = ["scratch", str(self._base(setting)), "--plan", plan, "--recipe", recipe, "--tuning-epochs", epochs]
        return [*command, "--budget", str(dict(setting.variant.options)["budget"])]

    def _base(self, setting: Setting) -> Path:
        """Folder of the dense network; published weights are imported again."""
        path = self.suite.dense_path(setting.dataset, setting.network, setting.seed)
        if setting.network in self.suite.base:
            folder = self._scratch / "dense" / path
            if not folder.exists():
                self._import(setting, folder)
            return folder
        folder = self._results / "dense" / path
        if not (folder / "model.json").exists():
            raise InputError(
                f"{folder} should hold the dense network of {setting.path}, but there is none. Make it first: "
                f"snakemake --cores all {folder}/model.json --configfile SUITE.yaml"
            )
        return folder

    def _import(self, setting: Setting, folder: Path) -> None:
        base = self.suite.base[setting.network]
        import_weights(
            file=self.suite.weights(setting.network),
            network=setting.network,
            dataset=setting.dataset,
            out=folder,
            mean=base.mean,
            std=base.std,
            trained_on=base.trained_on,
        )

    def _pack(self, setting: Setting) -> Path:
        """Folder of the packed dataset; packs it where it is not there."""
        folder = self._results / "data" / setting.dataset
        if not (folder / SOURCE).exists():
            root = None if self.suite.data_root is None else Path(self.suite.data_root)
            loading.prepare(datasets.get(setting.dataset), folder, data_root=root)
        return folder

    def _packs(self, setting: Setting) -> list[str]:
        return ["--dataset", setting.dataset, "--packs", str(self._pack(setting).parent)]

    def _images(self, setting: Setting) -> list[str]:
        return [*self._packs(setting), "--images", str(self.suite.calibration_images)]

    def _method(self, variant: Variant) -> list[str]:
        words = ["--method", variant.method, "--options", json.dumps(dict(variant.options))]
        return [*words, *(word for folder in self.suite.methods_dirs for word in ("--methods-dir", str(folder)))]

    def _kept_plan(self, setting: Setting) -> Path:
        return self._reference / self.suite.name / setting.path / "plan.json"

    # by the earlier code

    def _earlier_scores(self, setting: Setting) -> Path:
        """importance.safetensors."""
        origin = self.suite.origin(setting.variant)
        names = (setting.dataset, setting.network, f"seed{setting.seed}", origin.name)
        file = self._scratch.joinpath(*names, "importance.safetensors")
        if not file.exists():
            command = ["score", str(self._base(setting)), *self._method(origin), *self._images(setting)]
            self.earlier.run([*command, "--seed", str(setting.seed), "--out", str(file)])
        return file

    def _earlier_plan(self, setting: Setting) -> Any:
        """The content of plan.json."""
        origin = self.suite.origin(setting.variant)
        out, seed = self._scratch / "plan.json", ["--seed", str(setting.seed)]
        if setting.variant.method == "random_at":
            widths = self._kept_plan(replace(setting, variant=origin))
            self.earlier.run(["random-at", str(self._base(setting)), "--plan", str(widths), *seed, "--out", str(out)])
            return documents.read_json(out, "a plan")
        command = ["plan", str(self._base(setting)), "--importance", str(self._earlier_scores(setting))]
        command += [*self._method(origin), *self._images(setting), *seed]
        command += ["--policy", setting.policy, "--scope", setting.scope]
        command += [] if setting.target is None else ["--macs-reduction", paths.target_to_text(setting.target)]
        command += [] if self.suite.round_to == 1 else [f"--round-to={self.suite.round_to}"]
        if (spec := self.suite.ratios.get(setting.policy)) is not None:
            command += ["--ratios", spec if isinstance(spec, str) else json.dumps(dict(spec))]
        command += ["--policy-options", json.dumps(dict(origin.policy_options))] if origin.policy_options else []
        self.earlier.run([*command, "--out", str(out)])
        return documents.read_json(out, "a plan")

    # by today's

    def _network(self, setting: Setting) -> tuple[nn.Module, Description, ChannelGraph]:
        base = self._base(setting)
        if base not in self._networks:
            model, about = checkpoint.load(base)
            self._networks[base] = model, about, graph_of(model, about.input_shape)
        return self._networks[base]

    def _batch(self, setting: Setting) -> Batch:
        key = (self._base(setting), setting.seed)
        if key not in self._batches:
            pack = loading.load(split_file(self._pack(setting), "train"))
            _, about, _ = self._network(setting)
            images = self.suite.calibration_images
            self._batches[key] = Batch(*calibration_batch(pack, setting.seed, images, about.mean, about.std))
        return self._batches[key]

    def _scores(self, setting: Setting) -> dict[str, Tensor]:
        origin = self.suite.origin(setting.variant)
        key = (self._base(setting), setting.seed, origin.name)
        if key not in self._scored:
            model, _, graph = self._network(setting)
            method, options = self._methods[origin.method], dict(origin.options)
            self._scored[key] = scoring.score(model, self._batch(setting), graph, method, options, setting.seed)
        return self._scored[key]

    def _plan(self, setting: Setting) -> Plan:
        """A control's is made of the kept plan whose widths it takes."""
        origin = self.suite.origin(setting.variant)
        _, about, graph = self._network(setting)
        if setting.variant.method == "random_at":
            return random_at(plans.load(self._kept_plan(replace(setting, variant=origin))), graph, setting.seed)
        method, options = as_own(
            self._methods[origin.method], dict(origin.options), setting.policy, dict(origin.policy_options),
            lambda: shapes_of(graph), self.suite.methods_dirs,
        )  # fmt: skip
        return plan_by_policy(
            graph,
            self._scores(setting),
            method,
            setting.policy,
            options=options,
            make_loss=lambda: self._loss(setting),
            scope=setting.scope,
            target=setting.target,
            network=about.network,
            methods_dirs=self.suite.methods_dirs,
            ratios=self.suite.ratios.get(setting.policy),
            round_to=self.suite.round_to,
        )

    def _loss(self, setting: Setting) -> Loss:
        """The calibration loss, which depends on neither variant nor target: no channels are masked twice."""
        key = (self._base(setting), setting.seed)
        if key not in self._losses:
            model, _, graph = self._network(setting)
            self._losses[key] = _remembering(CalibrationLoss(model, graph, self._batch(setting).images))
        return self._losses[key]


def _remembering(loss: Callable[[dict[str, list[int]]], float]) -> Loss:
    known: dict[str, float] = {}

    def remembered(removed: dict[str, list[int]]) -> float:
        masked = json.dumps(removed, sort_keys=True)
        if masked not in known:
            known[masked] = loss(removed)
        return known[masked]

    return remembered


def is_scratch(setting: Setting) -> bool:
    """Whether its network is trained from scratch."""
    return setting.variant.method == "scratch_of"
