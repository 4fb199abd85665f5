# What a method's scores see on a few images; included only for suites with a method that has an explain().
rule explain:
    input:
        dag.dense_files,
        dag.packs,
        plan=f"{SETTING}/plan.json",
    output:
        f"{SETTING}/attention.safetensors",
    log:
        f"{SETTING}/explain.log",
    group:
        entry("importance", "dataset", "network", "seed")
    conda:
        ENV
    threads: jobs.threads_of_setting
    resources:
        gpu=1,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("score"),
    params:
        base=dag.dense,
        method=dag.method_options,
        images=SUITE.calibration_images,
        content=dag.packs_content,
        code=dag.code("explain"),
    shell:
        "python -P -m daar explain {params.base:q} --plan {input.plan:q} {params.method:q} --dataset {wildcards.dataset:q}"
        " --images {params.images:q} --seed {wildcards.seed:q} --out {output:q} --threads {threads} 2>&1 | tee -i {log:q}"


rule attention:
    input:
        [f"{RESULTS}/{s.path}/attention.safetensors" for s in dag.explained],
        suite=rules.suite.output,
    output:
        [figure("attention", pair) for pair in dag.pairs],
        expand(f"{RESULTS}/figures/{{pair}}-attention.png", pair=dag.pairs),
    log:
        f"{RESULTS}/attention.log",
    localrule: True
    conda:
        ENV
    params:
        code=dag.code("attention"),
    shell:
        "python -P -m daar report {input.suite:q} --only attention 2>&1 | tee -i {log:q}"
