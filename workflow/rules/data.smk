# no param: a pack is the same wherever its dataset was
DATA_ROOT = [f"--data-root={SUITE.data_root}"] if SUITE.data_root else []


rule pack:
    output:
        [split_file(dag.pack, split) for split in SPLITS],
        f"{dag.pack}/{SOURCE}",
    log:
        f"{dag.pack}/pack.log",
    localrule: True
    conda:
        ENV
    params:
        folder=subpath(output[0], parent=True),
        code=dag.code("pack"),
    shell:
        "python -m daar data prepare {wildcards.dataset:q} --out {params.folder:q} --download {DATA_ROOT:q}"
        " 2>&1 | tee -i {log:q}"
