"""What the command of the calibration images' ablation does."""

from argparse import Namespace

from daar import arguments, discovery, files
from daar.schemas import validate


def stability(a: Namespace) -> None:
    """`daar stability`."""
    method, options = discovery.get(a.method, a.methods_dir), arguments.options(a)
    from daar.stages import stability as stage

    found = stage.stability(
        base=a.checkpoint,
        method=method,
        options=options,
        packs=arguments.packs(a),
        images=a.images,
        seeds=a.seeds,
        scope=a.scope,
        target=a.macs_reduction,
        device=arguments.device(a),
    )
    validate(found, "stability", str(a.out), "Please report this.")
    files.write_json(a.out, found)
    print(stage.to_text(found))
