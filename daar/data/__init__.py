"""Data sets: what they are, where they come from, and the packed form that everything else reads.

- `datasets`: the registry (`get("cifar10")`); imports nothing heavy.
- `sources`: finds the images on disk, in milliseconds; imports nothing heavy.
- `readers`: reads a source into arrays, and names every fault in it.
- `splits`: the packed order and the train/val/test split.
- `fingerprints`: compares images with the official release.
- `packed`: the files: `prepare`, `load`, `check`.
- `calibration`: the images that data-driven methods score on.
"""

RESULT_NEUTRAL = "only says what the modules of this folder are for"
