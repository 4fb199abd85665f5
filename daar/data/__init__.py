"""Data sets: their facts, their sources, and the packed form that everything else reads.

- `datasets`: the registry (`get("cifar10")`); imports nothing heavy.
- `sources`: finds the images on disk, in milliseconds; imports nothing heavy.
- `pack_files`: names of the files of a prepared data set; imports nothing heavy.
- `readers`: reads a source into arrays; error messages name the file and row.
- `splits`: the packed order and the train/val/test split.
- `fingerprints`: compares images with the official release.
- `packed`: `prepare`, `load` and `check` packed files.
- `image_folder`: the same for images that stay in their folder, of which an index is made.
- `loading`: the same for either form.
- `decoding`: decodes image files in worker processes.
- `augmentation`: crops and flips packed images on the device.
- `calibration`: the images that data-driven methods score on.
"""

RESULT_NEUTRAL = "only says what the modules of this folder are for"
