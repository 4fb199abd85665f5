# What a method's scores see on a few images; included only for suites with a method that has an explain().
rule explain:
    input:
        dense_files,
        packs_of,
        plan=f"{SETTING}/plan.json",
    output:
        f"{SETTING}/attention.safetensors",
    log:
        f"{SETTING}/explain.log",
    group:
        entry("importance", "dataset", "network", "seed")
    conda:
        ENV
    threads: threads_of_settings
    resources:
        gpu=1,
        turn=1,
        mem_mb=memory,
        runtime=minutes("score"),
    params:
        base=dense_of,
        method=method_options,
        images=SUITE.calibration_images,
        code=lambda wildcards: code_hash(
            "daar.stages.explain",
            network=wildcards.network,
            files=method_of(wildcards).sources,
        ),
    shell:
        "python -m daar explain {params.base} --plan {input.plan} {params.method} --dataset {wildcards.dataset}"
        " --images {params.images} --seed {wildcards.seed} --out {output} --threads {threads} 2>&1 | tee -i {log}"


rule attention:
    input:
        [f"{RESULTS}/{s.path}/attention.safetensors" for s in EXPLAINED.values()],
        suite=rules.suite.output,
    output:
        [for_report("attention", table) for table in TABLES],
        expand(f"{RESULTS}/figures/{{table}}-attention.png", table=TABLES),
    log:
        f"{RESULTS}/attention.log",
    localrule: True
    conda:
        ENV
    params:
        code=code_hash("daar.report.attention"),
    shell:
        "python -m daar report {input.suite} --only attention 2>&1 | tee -i {log}"
