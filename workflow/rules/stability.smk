# How many calibration images an importance needs; included only for suites with the key `stability`.
rule stability:
    input:
        dag.first_dense_files,
        dag.packs,
    output:
        f"{dag.stability}.json",
    log:
        f"{dag.stability}.log",
    conda:
        ENV
    threads: jobs.threads_of_dense
    resources:
        gpu=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes(
            "score",
            times=SUITE.stability.scored_images / SUITE.calibration_images,
        ),
    params:
        benchmark=f"{dag.stability}.benchmark.tsv",
        base=subpath(input[0], parent=True),
        method=dag.method_options,
        images=SUITE.stability.images,
        seeds=SUITE.stability.seeds,
        target=SUITE.stability.macs_reduction,
        scope=SUITE.scope,
        content=dag.packs_content,
        code=dag.code("stability"),
    shell:
        "python -P -m daar stability {params.base:q} {params.method:q} --dataset {wildcards.dataset:q}"
        " --images {params.images:q} --seeds {params.seeds:q} --macs-reduction {params.target:q} --scope {params.scope:q}"
        " --benchmark {params.benchmark:q} --out {output:q} --threads {threads} 2>&1 | tee -i {log:q}"


rule stability_report:
    input:
        expand(
            f"{dag.stability}.json",
            dataset=SUITE.datasets,
            network=SUITE.networks,
            variant=SUITE.stability.variants,
        ),
        suite=rules.suite.output,
    output:
        [table("stability", pair, "stability") for pair in dag.pairs],
        [figure("stability", pair) for pair in dag.pairs],
        expand(f"{RESULTS}/tables/{{pair}}-stability.csv", pair=dag.pairs),
        expand(f"{RESULTS}/figures/{{pair}}-stability.png", pair=dag.pairs),
    log:
        f"{RESULTS}/stability.log",
    localrule: True
    conda:
        ENV
    params:
        code=dag.code("stability_report"),
    shell:
        "python -P -m daar report {input.suite:q} --only stability 2>&1 | tee -i {log:q}"
