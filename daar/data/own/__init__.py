"""Datasets of one's own: a folder of images with a folder for each class, or Parquet files with named columns.

- `definition`: what is known of one without decoding an image; imports nothing heavy.
- `folder`: finds the images in a folder, and says what is wrong with it; imports nothing heavy.
- `table`: reads Parquet files.
- `images`: makes 8-bit RGB of one size of any image.
- `pack`: splits, packs and describes them.
"""

RESULT_NEUTRAL = "only says what the modules of this folder are for"
