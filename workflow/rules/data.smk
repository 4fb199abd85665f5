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
        root=f"--data-root '{SUITE.data_root}'" if SUITE.data_root else "",
        code=dag.code("pack"),
    shell:
        "python -m daar data prepare {wildcards.dataset} --out {params.folder} --download {params.root}"
        " 2>&1 | tee -i {log}"
