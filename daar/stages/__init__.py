"""The stages: each reads and writes files and is a subcommand of `daar`, which is all that the workflow calls."""

import gc

# Python looks again and again through what torch has just imported, none of which is garbage: a third of a second
_was_enabled = gc.isenabled()
gc.disable()
import torch  # noqa: E402, F401  # before any stage does

gc.freeze()
if _was_enabled:
    gc.enable()
