TABLES = [
    f"{dataset}-{network}" for dataset in SUITE.datasets for network in SUITE.networks
]
# ending of a page's name → its caption
PAGES = {
    "": "../report/table.rst",
    "-costs": "../report/costs.rst",
    **{f"-ablation-{m}": "../report/ablation.rst" for m in SUITE.ablations},
}


# what tables/<pair>-published.* there will be
PUBLISHED = [
    f"{dataset}-{network}"
    for dataset in SUITE.datasets
    for network in SUITE.networks
    if (dataset, network) in literature.pairs()
]


rule suite:
    output:
        f"{RESULTS}/suite.json",
    log:
        f"{RESULTS}/suite.log",
    localrule: True
    conda:
        ENV
    params:
        config=json.dumps(suites.normal_form(config)),
    shell:
        "python -m daar suite write {params.config:q} --out {output} 2>&1 | tee -i {log}"


rule collect:
    input:
        [f"{RESULTS}/{setting.path}/record.json" for setting in SETTINGS],
        [f"{RESULTS}/{s.path}/latency.json" for s in SETTINGS if SUITE.latency],
        suite=rules.suite.output,
    output:
        f"{RESULTS}/results.csv",
    log:
        f"{RESULTS}/collect.log",
    localrule: True
    conda:
        ENV
    params:
        code=code_hash("daar.report.collect"),
    shell:
        "python -m daar report {input.suite} --only collect 2>&1 | tee -i {log}"


rule tables:
    input:
        rules.collect.output,
        suite=rules.suite.output,
    output:
        [
            table_for_report(page.removeprefix("-"), table, caption)
            for page, caption in PAGES.items()
            for table in TABLES
        ],
        expand(
            f"{RESULTS}/tables/{{table}}{{page}}.{{form}}",
            table=TABLES,
            page=PAGES,
            form=["csv", "tex", "html"],
        ),
        expand(f"{RESULTS}/tables/{{table}}-differences.csv", table=TABLES),
    log:
        f"{RESULTS}/tables.log",
    localrule: True
    conda:
        ENV
    params:
        code=code_hash("daar.report.tables"),
    shell:
        "python -m daar report {input.suite} --only tables 2>&1 | tee -i {log}"


rule figures:
    input:
        rules.collect.output,
        [
            f"{RESULTS}/{s.path}/plan.json"
            for s in SETTINGS
            if s.variant.method != "scratch_of"
        ],
        [f"{RESULTS}/{setting.path}/record.json" for setting in SETTINGS],
        sorted(
            {
                f"{RESULTS}/{Path(s.path).parent}/importance.safetensors"
                for s in SETTINGS
                if s.variant.name in SCORED
            }
        ),
        suite=rules.suite.output,
    output:
        [for_report(kind, table) for kind in KINDS for table in TABLES],
        expand(f"{RESULTS}/figures/{{table}}-{{kind}}.png", table=TABLES, kind=KINDS),
    log:
        f"{RESULTS}/figures.log",
    localrule: True
    conda:
        ENV
    params:
        code=code_hash("daar.report.figures"),
    shell:
        "python -m daar report {input.suite} --only figures 2>&1 | tee -i {log}"


if EXPLAINED:

    include: "explain.smk"


rule ledger:
    input:
        rules.collect.output,
        suite=rules.suite.output,
    output:
        table_for_report("ledger", "", "../report/ledger.rst"),
        f"{RESULTS}/tables/ledger.csv",
    log:
        f"{RESULTS}/ledger.log",
    localrule: True
    conda:
        ENV
    params:
        code=code_hash("daar.report.ledger"),
        published=files.sha256(literature.FILE),
    shell:
        "python -m daar report {input.suite} --only ledger 2>&1 | tee -i {log}"


if PUBLISHED:

    rule published:
        input:
            suite=rules.suite.output,
        output:
            [
                table_for_report("published", pair, "../report/published.rst")
                for pair in PUBLISHED
            ],
            expand(f"{RESULTS}/tables/{{pair}}-published.csv", pair=PUBLISHED),
        log:
            f"{RESULTS}/published.log",
        localrule: True
        conda:
            ENV
        params:
            code=code_hash("daar.report.published"),
            published=files.sha256(literature.FILE),
        shell:
            "python -m daar report {input.suite} --only published 2>&1 | tee -i {log}"
