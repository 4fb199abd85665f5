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
        "python -P -m daar data prepare {wildcards.dataset:q} --out {params.folder:q} --download"
        " 2>&1 | tee -i {log:q}"
