# `tee -i` in every rule: Ctrl-C goes to it as well, but a job has something to say after it.
rule train:
    input:
        dag.packs,
    output:
        f"{DENSE}/model.safetensors",
        f"{DENSE}/model.json",
    log:
        f"{DENSE}/train.log",
    benchmark:
        f"{DENSE}/train.benchmark.tsv"
    wildcard_constraints:
        recipe=paths.TRAINED,
    # a job that was killed alone goes on from its resume file, which stays, being no output
    retries: 2
    group:
        training_entry("dense", "dataset", "network")
    conda:
        ENV
    threads: jobs.threads_of_dense
    resources:
        **jobs.processes,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("train"),
    params:
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.train.to_json()),
        code=dag.code("train"),
    shell:
        "{resources.launch} train --network {wildcards.network} --dataset {wildcards.dataset} --seed {wildcards.seed}"
        " --recipe {params.recipe:q} --out {params.folder} --threads {resources.threads_each}"
        " --label '{wildcards.network} seed {wildcards.seed} dense' 2>&1 | tee -i {log}"


rule import_weights:
    # what it holds counts (params.content), not its date: a new copy of the same weights scores and tunes nothing again
    input:
        ancient(dag.weights),
    output:
        f"{DENSE}/model.safetensors",
        f"{DENSE}/model.json",
    log:
        f"{DENSE}/import.log",
    wildcard_constraints:
        recipe=paths.IMPORTED,
    localrule: True
    conda:
        ENV
    params:
        folder=subpath(output[0], parent=True),
        options=dag.import_options,
        content=dag.weights_content,
        code=dag.code("import_weights"),
    shell:
        "python -m daar import {input} --network {wildcards.network} --dataset {wildcards.dataset}"
        " --out {params.folder} {params.options} 2>&1 | tee -i {log}"


rule measure:
    input:
        f"{DENSE}/model.safetensors",
        f"{DENSE}/model.json",
        dag.packs,
        dag.test_pack,
    output:
        f"{DENSE}/measured.json",
    log:
        f"{DENSE}/measure.log",
    # every record waits for it, so it must not wait for cores until no tuning is left to start
    priority: 1
    group:
        training_entry("dense", "dataset", "network")
    conda:
        ENV
    threads: jobs.threads_of_setting
    resources:
        gpu=1,
        turn=1,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("measure"),
    params:
        folder=subpath(input[0], parent=True),
        code=dag.code("measure"),
    shell:
        "python -m daar measure {params.folder} --dataset {wildcards.dataset} --out {output} --threads {threads}"
        " 2>&1 | tee -i {log}"
