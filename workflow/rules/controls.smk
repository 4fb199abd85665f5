# Controls that take another variant's plan: random channels at its widths, and its slim network from scratch.
rule random_at:
    input:
        dag.dense_files,
        plan=dag.plan_of_origin,
    output:
        f"{SETTING}/plan.json",
    log:
        f"{SETTING}/plan.log",
    benchmark:
        f"{SETTING}/plan.benchmark.tsv"
    wildcard_constraints:
        variant=dag.variants_of("random_at"),
    group:
        entry("importance", "dataset", "network", "seed")
    conda:
        ENV
    resources:
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("random_at"),
    params:
        base=dag.dense,
        code=dag.code("random_at"),
    shell:
        "python -m daar random-at {params.base} --plan {input.plan} --seed {wildcards.seed} --out {output}"
        " 2>&1 | tee -i {log}"


rule scratch:
    input:
        dag.dense_files,
        dag.packs,
        plan=dag.plan_of_origin,
    output:
        f"{SETTING}/model.safetensors",
        f"{SETTING}/model.json",
    log:
        f"{SETTING}/scratch.log",
    benchmark:
        f"{SETTING}/finetune.benchmark.tsv"
    wildcard_constraints:
        variant=dag.variants_of("scratch_of"),
    retries: 2
    group:
        training_entry("tuning", "dataset", "network", "seed")
    conda:
        ENV
    threads: jobs.threads_of_setting
    resources:
        **jobs.processes,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("scratch"),
    params:
        base=dag.dense,
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.train.to_json()),
        tuning_epochs=SUITE.finetune.epochs,
        budget=dag.budget,
        images=SUITE.calibration_images,
        code=dag.code("scratch"),
    shell:
        "{resources.launch} scratch {params.base} --plan {input.plan} --dataset {wildcards.dataset}"
        " --images {params.images} --seed {wildcards.seed} --recipe {params.recipe:q} --budget {params.budget}"
        " --tuning-epochs {params.tuning_epochs} --out {params.folder} --threads {resources.threads_each}"
        " --label '{wildcards.network} seed {wildcards.seed} {wildcards.variant} {wildcards.target}'"
        " 2>&1 | tee -i {log}"


use rule record as record_scratch with:
    input:
        dag.dense_files,
        dag.packs,
        dag.test_pack,
        rules.scratch.output,
        measured=lambda wildcards: f"{dag.dense(wildcards)}/measured.json",
    wildcard_constraints:
        variant=dag.variants_of("scratch_of"),
