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


if SUITE.own_data:

    # a folder or Parquet files of one's own; that they hold others than before is seen by params.code
    rule pack_own:
        output:
            rules.pack.output,
        log:
            f"{dag.pack}/pack.log",
        wildcard_constraints:
            dataset=dag.own_data,
        localrule: True
        conda:
            ENV
        params:
            folder=subpath(output[0], parent=True),
            options=dag.own_data_options,
            code=dag.code("pack_own"),
        shell:
            "python -P -m daar data prepare {wildcards.dataset:q} --out {params.folder:q} {params.options:q}"
            " 2>&1 | tee -i {log:q}"

    ruleorder: pack_own > pack
