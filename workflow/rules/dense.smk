# `tee -i` in every rule: Ctrl-C goes to it as well, but a job has something to say after it.
rule train:
    input:
        packs_of,
    output:
        f"{DENSE}/model.safetensors",
        f"{DENSE}/model.json",
    log:
        f"{DENSE}/train.log",
    benchmark:
        f"{DENSE}/train.benchmark.tsv"
    wildcard_constraints:
        recipe="[0-9a-f]{12}(-x[0-9]+)?",
    # a job that was killed alone goes on from its resume file, which stays, being no output
    retries: 2
    group:
        training_entry("dense", "dataset", "network")
    conda:
        ENV
    threads: threads_of_dense
    resources:
        **PROCESSES,
        turn=1,
        mem_mb=memory,
        runtime=minutes("train"),
    params:
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.train.to_json()),
        code=lambda wildcards: code_hash("daar.stages.train", network=wildcards.network),
    shell:
        "{resources.launch} train --network {wildcards.network} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --recipe {params.recipe:q} --out {params.folder} --threads {resources.threads_each}"
        " --label '{wildcards.network} seed {wildcards.seed} dense' 2>&1 | tee -i {log}"


rule import_weights:
    # what it holds counts (params.content), not its date: a new copy of the same weights scores and tunes nothing again
    input:
        ancient(published_weights),
    output:
        f"{DENSE}/model.safetensors",
        f"{DENSE}/model.json",
    log:
        f"{DENSE}/import.log",
    wildcard_constraints:
        recipe="import-[0-9a-f]{8}",
    localrule: True
    conda:
        ENV
    params:
        folder=subpath(output[0], parent=True),
        options=lambda wildcards: SUITE.base[wildcards.network].options,
        content=lambda wildcards: list(map(files.sha256, published_weights(wildcards))),
        code=lambda wildcards: code_hash(
            "daar.stages.import_weights", network=wildcards.network
        ),
    shell:
        "python -m daar import {input} --network {wildcards.network} --dataset {wildcards.dataset}"
        " --out {params.folder} {params.options} 2>&1 | tee -i {log}"


rule measure:
    input:
        f"{DENSE}/model.safetensors",
        f"{DENSE}/model.json",
        packs_of,
        test_pack_of,
    output:
        f"{DENSE}/measured.json",
    log:
        f"{DENSE}/measure.log",
    # every record waits for it, and it must not wait until so many cores are free that no tuning is left to start
    priority: 1
    group:
        training_entry("dense", "dataset", "network")
    conda:
        ENV
    threads: threads_of_settings
    resources:
        gpu=1,
        turn=1,
        mem_mb=memory,
        runtime=minutes("measure"),
    params:
        folder=subpath(input[0], parent=True),
        code=code_hash("daar.stages.measure"),
    shell:
        "python -m daar measure {params.folder} --dataset {wildcards.dataset} --out {output} --threads {threads}"
        " 2>&1 | tee -i {log}"
