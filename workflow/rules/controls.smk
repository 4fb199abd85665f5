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
    conda:
        ENV
    params:
        base=dense_of,
        code=lambda wildcards: provenance.code_hash(
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
    conda:
        ENV
    threads: threads_of_settings
    resources:
        gpu=1,
    params:
        base=dense_of,
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.train.to_json()),
        tuning_epochs=SUITE.finetune.epochs,
        budget=lambda wildcards: dict(SUITE.variant(wildcards.variant).options)[
            "budget"
        ],
        images=SUITE.calibration_images,
        code=lambda wildcards: provenance.code_hash(
            "daar.stages.scratch", network=wildcards.network
        ),
    shell:
        "python -m daar scratch {params.base} --plan {input.plan} --dataset {wildcards.dataset}"
        " --images {params.images} --seed {wildcards.seed} --recipe {params.recipe:q} --budget {params.budget}"
        " --tuning-epochs {params.tuning_epochs} --out {params.folder} --threads {threads}"
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
