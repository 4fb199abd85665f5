# `tee -i` in every rule: Ctrl-C goes to it as well, but a job has something to say after it.
rule train:
    input:
        dag.packs,
    output:
        f"{DENSE}/model.safetensors",
        f"{DENSE}/model.json",
    log:
        f"{DENSE}/train.log",
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
        benchmark=f"{DENSE}/train.benchmark.tsv",
        folder=subpath(output[0], parent=True),
        recipe=json.dumps(SUITE.train.to_json()),
        label="{network} seed {seed} dense",
        content=dag.packs_content,
        code=dag.code("train"),
    shell:
        "{resources.launch} train --network {wildcards.network:q} --dataset {wildcards.dataset:q} --seed {wildcards.seed:q}"
        " --recipe {params.recipe:q} --out {params.folder:q} --benchmark {params.benchmark:q} --threads {resources.threads_each}"
        " --label {params.label:q} 2>&1 | tee -i {log:q}"


# What the file holds counts (params.content), not its name, folder or date: a new copy of the same weights scores and tunes
# nothing again. So it is no input, whose name would count, nor a param.
rule import_weights:
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
    resources:
        weights=dag.weights,
    params:
        folder=subpath(output[0], parent=True),
        options=dag.import_options,
        content=dag.weights_content,
        code=dag.code("import_weights"),
    shell:
        "python -P -m daar import --network {wildcards.network:q} --dataset {wildcards.dataset:q}"
        " --out {params.folder:q} {params.options:q} -- {resources.weights:q} 2>&1 | tee -i {log:q}"


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
        content=dag.all_packs_content,
        code=dag.code("measure"),
    shell:
        "python -P -m daar measure {params.folder:q} --dataset {wildcards.dataset:q} --out {output:q} --threads {threads}"
        " 2>&1 | tee -i {log:q}"
