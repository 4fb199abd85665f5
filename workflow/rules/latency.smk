# How long a slim network takes, and its dense one; included only for suites with `latency: true`. A job takes all cores
# and a whole GPU, since whatever ran next to it would be measured too.
rule latency:
    input:
        dag.dense_files,
        f"{SETTING}/model.safetensors",
        f"{SETTING}/model.json",
    output:
        f"{SETTING}/latency.json",
    log:
        f"{SETTING}/latency.log",
    conda:
        ENV
    threads: jobs.all_cores
    resources:
        **jobs.alone,
        gpu=SLOTS_PER_GPU,
        mem_mb=jobs.memory,
        runtime=jobs.minutes("latency"),
    params:
        base=dag.dense,
        folder=subpath(output[0], parent=True),
        code=dag.code("latency"),
    shell:
        "python -P -m daar latency {params.folder:q} --against {params.base:q} --batch-sizes 1 128 --out {output:q}"
        " --threads {threads} 2>&1 | tee -i {log:q}"
