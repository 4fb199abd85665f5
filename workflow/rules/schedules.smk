# Schedules other than one-shot: one job scores, plans, slims and tunes as often as its schedule says.
rule schedule:
    input:
        dag.dense_files,
        dag.packs,
    output:
        f"{SETTING}/plan.json",
        f"{SETTING}/model.safetensors",
        f"{SETTING}/model.json",
        f"{SETTING}/recalibrated/model.safetensors",
        f"{SETTING}/recalibrated/model.json",
    log:
        f"{SETTING}/schedule.log",
    wildcard_constraints:
        variant=dag.scheduled,
    retries: 2
    group:
        training_entry("tuning", "dataset", "network", "seed")
    conda:
        ENV
    threads: jobs.threads_of_setting
    resources:
        gpu=1,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("schedule"),
    params:
        benchmark=f"{SETTING}/finetune.benchmark.tsv",
        base=dag.dense,
        folder=subpath(output[0], parent=True),
        schedule=dag.schedule_options,
        method=dag.method_options,
        target=dag.target_options,
        recipe=json.dumps(SUITE.finetune.to_json()),
        images=SUITE.calibration_images,
        label="{network} seed {seed} {variant} {target}",
        made_from=dag.made_from,
        content=dag.packs_content,
        code=dag.code("schedule"),
    shell:
        "python -P -m daar schedule {params.base:q} {params.schedule:q} {params.method:q}"
        " --policy {wildcards.policy:q} --scope {wildcards.scope:q} {params.target:q}"
        " --dataset {wildcards.dataset:q} --images {params.images:q} --seed {wildcards.seed:q} --recipe {params.recipe:q}"
        " --made-from {params.made_from:q} --out {params.folder:q} --benchmark {params.benchmark:q} --threads {threads}"
        " --label {params.label:q}"
        " 2>&1 | tee -i {log:q}"


rule record_scheduled:
    input:
        dag.dense_files,
        dag.packs,
        dag.test_pack,
        rules.schedule.output,
        measured=lambda wildcards: f"{dag.dense(wildcards)}/measured.json",
    output:
        f"{SETTING}/record.json",
    log:
        f"{SETTING}/record.log",
    wildcard_constraints:
        variant=dag.scheduled,
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
        # of scoring, planning and tuning together
        benchmarks=[f"finetune={SETTING}/finetune.benchmark.tsv"],
        made_from=dag.made_from,
        content=dag.all_packs_content,
        code=dag.code("record_scheduled"),
    shell:
        "python -P -m daar record {params.folder:q} --base {params.base:q} --base-measured {input.measured:q}"
        " --suite {params.suite:q} --variant {wildcards.variant:q} {params.method:q} --dataset {wildcards.dataset:q}"
        " --images {params.images:q} --seed {wildcards.seed:q} --benchmarks {params.benchmarks:q} --out {output:q}"
        " --made-from {params.made_from:q} --threads {threads} 2>&1 | tee -i {log:q}"


if dag.reused:

    ruleorder: reuse > schedule
    ruleorder: reuse > record_scheduled
