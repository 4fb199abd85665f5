# Controls that take another variant's plan: random channels at its widths, and its slim network from scratch.
rule random_at:
    input:
        dense_files,
        plan=plan_of_origin,
    output:
        f"{SETTING}/plan.json",
    log:
        f"{SETTING}/plan.log",
    benchmark:
        f"{SETTING}/plan.benchmark.tsv"
    wildcard_constraints:
        variant=variants_of("random_at"),
    group:
        entry("importance", "dataset", "network", "seed")
    conda:
        ENV
    resources:
        turn=1,
        mem_mb=memory,
        runtime=minutes("random_at"),
    params:
        base=dense_of,
        code=lambda wildcards: code_hash(
            "daar.pruning.random_at", network=wildcards.network
        ),
    shell:
        "python -m daar random-at {params.base} --plan {input.plan} --seed {wildcards.seed} --out {output}"
        " 2>&1 | tee -i {log}"


rule scratch:
    input:
        dense_files,
        packs_of,
        plan=plan_of_origin,
    output:
        f"{SETTING}/model.safetensors",
        f"{SETTING}/model.json",
    log:
        f"{SETTING}/scratch.log",
    benchmark:
        f"{SETTING}/finetune.benchmark.tsv"
    wildcard_constraints:
        variant=variants_of("scratch_of"),
    retries: 2
    group:
        training_entry("tuning", "dataset", "network", "seed")
    conda:
        ENV
    threads: threads_of_settings
    resources:
        **PROCESSES,
        turn=1,
        mem_mb=memory,
        runtime=minutes("scratch"),
    params:
        base=dense_of,
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.train.to_json()),
        tuning_epochs=SUITE.finetune.epochs,
        budget=lambda wildcards: dict(SUITE.variant(wildcards.variant).options)[
            "budget"
        ],
        images=SUITE.calibration_images,
        code=lambda wildcards: code_hash(
            "daar.stages.scratch", network=wildcards.network
        ),
    shell:
        "{resources.launch} scratch {params.base} --plan {input.plan} --dataset {wildcards.dataset}"
        " --images {params.images} --seed {wildcards.seed} --recipe {params.recipe:q} --budget {params.budget}"
        " --tuning-epochs {params.tuning_epochs} --out {params.folder} --threads {resources.threads_each}"
        " --label '{wildcards.network} seed {wildcards.seed} {wildcards.variant} {wildcards.target}'"
        " 2>&1 | tee -i {log}"


use rule record as record_scratch with:
    input:
        dense_files,
        packs_of,
        test_pack_of,
        rules.scratch.output,
        measured=lambda wildcards: f"{dense_of(wildcards)}/measured.json",
    wildcard_constraints:
        variant=variants_of("scratch_of"),
