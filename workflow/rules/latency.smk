# How long a slim network takes beside its dense one; included only for suites with `latency: true`. A job takes every
# core and a whole GPU, since whatever ran beside it would be measured too.
rule latency:
    input:
        dense_files,
        f"{SETTING}/model.safetensors",
        f"{SETTING}/model.json",
    output:
        f"{SETTING}/latency.json",
    log:
        f"{SETTING}/latency.log",
    conda:
        ENV
    threads: all_cores
    resources:
        **({"slurm_extra": "--exclusive"} if ON_CLUSTER else {}),
        gpu=SLOTS_PER_GPU,
        mem_mb=memory,
        runtime=minutes("latency"),
    params:
        base=dense_of,
        folder=subpath(output[0], parent=True),
        code=code_hash("daar.stages.latency"),
    shell:
        "python -m daar latency {params.folder} --against {params.base} --batch-sizes 1 128 --out {output}"
        " --threads {threads} 2>&1 | tee -i {log}"
