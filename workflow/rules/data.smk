rule pack:
    output:
        f"{PACKS}/{{dataset}}/train.safetensors",
        f"{PACKS}/{{dataset}}/val.safetensors",
        f"{PACKS}/{{dataset}}/test.safetensors",
        f"{PACKS}/{{dataset}}/source.json",
    log:
        f"{PACKS}/{{dataset}}/pack.log",
    localrule: True
    conda:
        ENV
    params:
        folder=subpath(output[0], parent=True),
        root=f"--data-root '{SUITE.data_root}'" if SUITE.data_root else "",
        code=code_hash("daar.data.packed"),
    shell:
        "python -m daar data prepare {wildcards.dataset} --out {params.folder} --download {params.root}"
        " 2>&1 | tee -i {log}"
