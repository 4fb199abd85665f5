# How many calibration images an importance needs; included only for suites with the key `stability`.
rule stability:
    input:
        first_dense_files,
        packs_of,
    output:
        f"{RESULTS}/{{dataset}}/{{network}}/stability/{{variant}}.json",
    log:
        f"{RESULTS}/{{dataset}}/{{network}}/stability/{{variant}}.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/{{network}}/stability/{{variant}}.benchmark.tsv"
    conda:
        ENV
    threads: threads_of_dense
    resources:
        gpu=1,
        mem_mb=memory,
        # as many scorings as there are draws, of this many images together for every draw
        runtime=minutes(
            "score",
            times=len(SUITE.stability.seeds)
            * sum(SUITE.stability.images)
            / SUITE.calibration_images,
        ),
    params:
        base=subpath(input[0], parent=True),
        method=method_options,
        images=SUITE.stability.images,
        seeds=SUITE.stability.seeds,
        target=SUITE.stability.macs_reduction,
        scope=SUITE.scope,
        code=lambda wildcards: code_hash(
            "daar.stages.stability",
            network=wildcards.network,
            files=method_of(wildcards).sources,
        ),
    shell:
        "python -m daar stability {params.base} {params.method} --dataset {wildcards.dataset}"
        " --images {params.images} --seeds {params.seeds} --macs-reduction {params.target} --scope {params.scope}"
        " --out {output} --threads {threads} 2>&1 | tee -i {log}"


rule stability_report:
    input:
        expand(
            f"{RESULTS}/{{dataset}}/{{network}}/stability/{{variant}}.json",
            dataset=SUITE.datasets,
            network=SUITE.networks,
            variant=SUITE.stability.variants,
        ),
        suite=rules.suite.output,
    output:
        [
            table_for_report("stability", table, "../report/stability.rst")
            for table in TABLES
        ],
        [
            report(
                f"{RESULTS}/figures/{table}-stability.svg",
                category="Figures",
                caption="../report/stability.rst",
                labels={"figure": "images needed", "of": table},
            )
            for table in TABLES
        ],
        expand(f"{RESULTS}/tables/{{table}}-stability.csv", table=TABLES),
        expand(f"{RESULTS}/figures/{{table}}-stability.png", table=TABLES),
    log:
        f"{RESULTS}/stability.log",
    localrule: True
    conda:
        ENV
    params:
        code=code_hash("daar.report.stability"),
    shell:
        "python -m daar report {input.suite} --only stability 2>&1 | tee -i {log}"
