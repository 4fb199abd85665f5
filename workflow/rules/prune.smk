# The template of every method's rule: it matches no variant itself. A method's rule.smk inherits it under a name of its
# own (`use rule score as score_<name>`) or is a whole rule that writes the same file by any program.
rule score:
    input:
        dag.dense_files,
        dag.packs,
    output:
        f"{VARIANT}/importance.safetensors",
    log:
        f"{VARIANT}/score.log",
    wildcard_constraints:
        variant="(?!)",
    # a score on several cores would otherwise wait behind all tunings of one, and its method's settings come last
    priority: 1
    group:
        entry("importance", "dataset", "network", "seed")
    conda:
        ENV
    resources:
        gpu=1,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("score"),
    params:
        benchmark=f"{VARIANT}/score.benchmark.tsv",
        base=dag.dense,
        method=dag.method_options,
        images=SUITE.calibration_images,
        content=dag.packs_content,
        code=dag.code("score"),
    shell:
        "python -P -m daar score {params.base:q} {params.method:q} --dataset {wildcards.dataset:q} --images {params.images:q}"
        " --seed {wildcards.seed:q} --benchmark {params.benchmark:q} --out {output:q} --threads {threads} 2>&1 | tee -i {log:q}"


rule plan:
    input:
        dag.dense_files,
        dag.packs,
        importance=f"{VARIANT}/importance.safetensors",
    output:
        f"{SETTING}/plan.json",
    log:
        f"{SETTING}/plan.log",
    wildcard_constraints:
        variant=dag.variants_but(*CONTROLS),
    group:
        entry("importance", "dataset", "network", "seed")
    conda:
        ENV
    threads: jobs.threads_of_plan
    resources:
        gpu=1,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("plan"),
    params:
        benchmark=f"{SETTING}/plan.benchmark.tsv",
        base=dag.dense,
        method=dag.method_options,
        target=dag.target_options,
        images=SUITE.calibration_images,
        content=dag.packs_content,
        code=dag.code("plan"),
    shell:
        "python -P -m daar plan {params.base:q} --importance {input.importance:q} {params.method:q}"
        " --policy {wildcards.policy:q} --scope {wildcards.scope:q} {params.target:q}"
        " --dataset {wildcards.dataset:q} --images {params.images:q} --seed {wildcards.seed:q}"
        " --benchmark {params.benchmark:q} --out {output:q} --threads {threads} 2>&1 | tee -i {log:q}"


rule finetune:
    input:
        dag.dense_files,
        dag.packs,
        plan=f"{SETTING}/plan.json",
    output:
        f"{SETTING}/model.safetensors",
        f"{SETTING}/model.json",
        f"{SETTING}/recalibrated/model.safetensors",
        f"{SETTING}/recalibrated/model.json",
    log:
        f"{SETTING}/finetune.log",
    wildcard_constraints:
        variant=dag.variants_but("scratch_of"),
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
        runtime=jobs.minutes("finetune"),
    params:
        benchmark=f"{SETTING}/finetune.benchmark.tsv",
        base=dag.dense,
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.finetune.to_json()),
        images=SUITE.calibration_images,
        label="{network} seed {seed} {variant} {target}",
        content=dag.packs_content,
        code=dag.code("finetune"),
    shell:
        "{resources.launch} finetune {params.base:q} --plan {input.plan:q} --dataset {wildcards.dataset:q}"
        " --images {params.images:q} --seed {wildcards.seed:q} --recipe {params.recipe:q} --out {params.folder:q} --benchmark {params.benchmark:q}"
        " --threads {resources.threads_each}"
        " --label {params.label:q}"
        " 2>&1 | tee -i {log:q}"


rule record:
    input:
        dag.dense_files,
        dag.packs,
        dag.test_pack,
        rules.finetune.output,
        measured=lambda wildcards: f"{dag.dense(wildcards)}/measured.json",
    output:
        f"{SETTING}/record.json",
    log:
        f"{SETTING}/record.log",
    wildcard_constraints:
        variant=dag.variants_but("scratch_of"),
    # before further tunings: what is finished can be kept and reported while the rest runs
    priority: 1
    group:
        training_entry("tuning", "dataset", "network", "seed")
    conda:
        ENV
    threads: jobs.threads_of_setting
    resources:
        gpu=1,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("record"),
    params:
        base=dag.dense,
        folder=subpath(output[0], parent=True),
        suite=SUITE.name,
        method=dag.recorded_options,
        images=SUITE.calibration_images,
        benchmarks=[
            f"score={VARIANT}/score.benchmark.tsv",
            f"plan={SETTING}/plan.benchmark.tsv",
            f"finetune={SETTING}/finetune.benchmark.tsv",
        ],
        made_from=dag.made_from,
        content=dag.all_packs_content,
        code=dag.code("record"),
    shell:
        "python -P -m daar record {params.folder:q} --base {params.base:q} --base-measured {input.measured:q}"
        " --suite {params.suite:q} --variant {wildcards.variant:q} {params.method:q} --dataset {wildcards.dataset:q}"
        " --images {params.images:q} --seed {wildcards.seed:q} --benchmarks {params.benchmarks:q} --out {output:q}"
        " --made-from {params.made_from:q} --threads {threads} 2>&1 | tee -i {log:q}"


if dag.reused:

    ruleorder: reuse > plan > random_at
    ruleorder: reuse > record
    ruleorder: reuse_scratch > record_scratch

    # in place of planning, tuning and measuring, where a record was kept
    rule reuse:
        input:
            lambda wildcards: dag.dense_files(dag.settings[wildcards.setting]),
        output:
            f"{RESULTS}/{{setting}}/record.json",
            f"{RESULTS}/{{setting}}/plan.json",
        log:
            f"{RESULTS}/{{setting}}/record.log",
        wildcard_constraints:
            setting=dag.reused_settings(scratch=False),
        localrule: True
        conda:
            ENV
        resources:
            # what it holds counts, not in which checkout it lies
            kept=dag.kept,
        params:
            base=subpath(input[0], parent=True),
            content=dag.kept_content,
        shell:
            "python -P -m daar reuse {resources.kept:q} --base {params.base:q} --out {output[0]:q} 2>&1 | tee -i {log:q}"

    # a network from scratch has its plan from another setting
    use rule reuse as reuse_scratch with:
        output:
            f"{RESULTS}/{{setting}}/record.json",
        wildcard_constraints:
            setting=dag.reused_settings(scratch=True),
