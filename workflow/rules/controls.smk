# Controls that take another variant's plan: random channels at its widths, and its slim network from scratch.
rule random_at:
    input:
        dag.dense_files,
        plan=dag.plan_of_origin,
    output:
        f"{SETTING}/plan.json",
    log:
        f"{SETTING}/plan.log",
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
        benchmark=f"{SETTING}/plan.benchmark.tsv",
        base=dag.dense,
        code=dag.code("random_at"),
    shell:
        "python -P -m daar random-at {params.base:q} --plan {input.plan:q} --seed {wildcards.seed:q} --benchmark {params.benchmark:q} --out {output:q}"
        " 2>&1 | tee -i {log:q}"


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
        benchmark=f"{SETTING}/finetune.benchmark.tsv",
        base=dag.dense,
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.train.to_json()),
        tuning_epochs=SUITE.finetune.epochs,
        budget=dag.budget,
        images=SUITE.calibration_images,
        label="{network} seed {seed} {variant} {target}",
        content=dag.packs_content,
        code=dag.code("scratch"),
    shell:
        "{resources.launch} scratch {params.base:q} --plan {input.plan:q} --dataset {wildcards.dataset:q}"
        " --images {params.images:q} --seed {wildcards.seed:q} --recipe {params.recipe:q} --budget {params.budget:q}"
        " --tuning-epochs {params.tuning_epochs:q} --out {params.folder:q} --benchmark {params.benchmark:q} --threads {resources.threads_each}"
        " --label {params.label:q}"
        " 2>&1 | tee -i {log:q}"


use rule record as record_scratch with:
    input:
        dag.dense_files,
        dag.packs,
        dag.test_pack,
        rules.scratch.output,
        measured=lambda wildcards: f"{dag.dense(wildcards)}/measured.json",
    wildcard_constraints:
        variant=dag.variants_of("scratch_of"),
