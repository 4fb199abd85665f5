rule suite:
    output:
        f"{RESULTS}/suite.json",
    log:
        f"{RESULTS}/suite.log",
    localrule: True
    conda:
        ENV
    params:
        # a function, so that Snakemake takes no text in it for a wildcard
        config=lambda wildcards: json.dumps(reading.normal_form(config)),
    shell:
        "python -P -m daar suite write {params.config:q} --out {output:q} 2>&1 | tee -i {log:q}"


rule collect:
    input:
        dag.of_settings("record.json"),
        dag.of_settings("latency.json") if SUITE.latency else [],
        suite=rules.suite.output,
    output:
        f"{RESULTS}/results.csv",
    log:
        f"{RESULTS}/collect.log",
    localrule: True
    conda:
        ENV
    params:
        code=dag.code("collect"),
    shell:
        "python -P -m daar report {input.suite:q} --only collect 2>&1 | tee -i {log:q}"


rule tables:
    input:
        rules.collect.output,
        suite=rules.suite.output,
    output:
        [
            table(page.removeprefix("-"), pair, caption)
            for page, caption in dag.pages.items()
            for pair in dag.pairs
        ],
        expand(
            f"{RESULTS}/tables/{{pair}}{{page}}.{{form}}",
            pair=dag.pairs,
            page=dag.pages,
            form=["csv", "tex", "html"],
        ),
        expand(f"{RESULTS}/tables/{{pair}}-differences.csv", pair=dag.pairs),
    log:
        f"{RESULTS}/tables.log",
    localrule: True
    conda:
        ENV
    params:
        code=dag.code("tables"),
    shell:
        "python -P -m daar report {input.suite:q} --only tables 2>&1 | tee -i {log:q}"


# each with the code of its own, so that an edit of one draws that one again
for kind in dag.figures:

    rule:
        name:
            figures.rule(kind)
        input:
            rules.collect.output,
            dag.figure_inputs(kind),
            suite=rules.suite.output,
        output:
            [figure(kind, pair) for pair in dag.pairs],
            expand(f"{RESULTS}/figures/{{pair}}-{kind}.png", pair=dag.pairs),
        log:
            f"{RESULTS}/{kind}.log",
        localrule: True
        conda:
            ENV
        params:
            kind=kind,
            code=dag.code(figures.rule(kind)),
        shell:
            "python -P -m daar report {input.suite:q} --only {params.kind:q} 2>&1 | tee -i {log:q}"


if dag.explained:

    include: "explain.smk"


rule ledger:
    input:
        rules.collect.output,
        suite=rules.suite.output,
    output:
        table("ledger", "", "ledger"),
        f"{RESULTS}/tables/ledger.csv",
    log:
        f"{RESULTS}/ledger.log",
    localrule: True
    conda:
        ENV
    params:
        code=dag.code("ledger"),
    shell:
        "python -P -m daar report {input.suite:q} --only ledger 2>&1 | tee -i {log:q}"


if dag.published:

    rule published:
        input:
            suite=rules.suite.output,
        output:
            [table("published", pair, "published") for pair in dag.published],
            expand(f"{RESULTS}/tables/{{pair}}-published.csv", pair=dag.published),
        log:
            f"{RESULTS}/published.log",
        localrule: True
        conda:
            ENV
        params:
            code=dag.code("published"),
        shell:
            "python -P -m daar report {input.suite:q} --only published 2>&1 | tee -i {log:q}"
