"""How tables and figures name networks and datasets, by their titles where the registries know them, and seeds."""

from daar import models
from daar.data import datasets


def pair_title(network: str, dataset: str) -> str:
    """For ("resnet20", "digits") it is "ResNet-20 on Digits"; names unknown to the registries stay as they are."""
    network_title = models.NETWORKS[network].title if network in models.NETWORKS else network
    dataset_title = datasets.DATASETS[dataset].title if dataset in datasets.DATASETS else dataset
    return f"{network_title} on {dataset_title}"


def seeds_title(listed: str) -> str:
    """For "1" it is "seed 1", for "0, 2" it is "seeds 0, 2"."""
    return f"seed{'s' if ',' in listed else ''} {listed}"
