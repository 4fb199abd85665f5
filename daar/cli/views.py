"""Look at what there is: `list` and `describe`.

Heavy modules are imported where they are needed.
"""

import json
from argparse import Namespace
from typing import Any

from daar import models
from daar.cli import arguments, options
from daar.data import datasets
from daar.methods import discovery
from daar.models import libraries
from daar.pruning import policies
from daar.storage import documents
from daar.training import published_recipes, schedules


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    command = options.command(subparsers, "list", list_names, "list what there is")
    command.add_argument("what", choices=["methods", "networks", "datasets", "policies", "schedules", "recipes"])
    options.add_json(command)
    options.add_methods_dir(command)
    options.add_networks_dir(command)

    command = options.command(subparsers, "describe", describe, "show a network's size and its channel groups")
    words = "see: daar list networks; a file's name in --networks-dir; or timm:NAME, torchvision:NAME, also with @SIZE"
    command.add_argument("network", metavar="NETWORK", help=words)
    options.add_networks_dir(command)
    words = "gives the number of classes (default: cifar10, for networks of 224x224 images imagenet)"
    command.add_argument("--dataset", help=words)
    options.add_json(command)


def list_names(a: Namespace) -> None:
    """`daar list`."""
    if a.what == "methods":
        rows = {name: str(m.info.get("title", "")) for name, m in discovery.find(a.methods_dir).items()}
    elif a.what == "networks":
        rows = {n.name: f"{n.title}, {n.macs / 1e6:.1f}M MACs" for n in models.NETWORKS.values()}
        rows |= {name: f"{n.title}, of {documents.shown(n.file)}" for name, n in models.of_folders().items()}
        if not a.json:
            rows |= {f"{library}:NAME": f"any of {library}'s" for library in libraries.PACKAGES}
    elif a.what == "datasets":
        rows = {
            d.name: f"{d.title}, {d.train:,} train, {d.val:,} val, {d.test:,} test" for d in datasets.DATASETS.values()
        }
    elif a.what == "schedules":
        rows = schedules.TITLES
    elif a.what == "recipes":
        rows = {name: recipe.summary for name, recipe in published_recipes.find().items()}
    else:
        rows = policies.names(a.methods_dir)
    if a.json:
        whole = (
            {name: recipe.to_json() for name, recipe in published_recipes.find().items()}
            if a.what == "recipes"
            else rows
        )
        print(json.dumps(whole, indent=2))
        return
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {words}" for name, words in rows.items()))


def describe(a: Namespace) -> None:
    """`daar describe`: sizes, then the channel groups with who makes and who reads them."""
    from daar.stages.describe import describe, to_text

    network = models.get(arguments.network(a) if a.dataset else a.network)
    description = describe(network, datasets.num_classes(a.dataset) if a.dataset else network.classes)
    print(json.dumps(description, indent=2) if a.json else to_text(description))
