# report.html takes up all tables and figures, so it is included after the rules that make them.
rule page:
    input:
        rules.collect.output,
        rules.tables.output,
        rules.figures.output,
        rules.ledger.output,
        rules.published.output if PUBLISHED else [],
        rules.stability_report.output if SUITE.stability else [],
        rules.attention.output if EXPLAINED else [],
        suite=rules.suite.output,
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/page.log",
    localrule: True
    conda:
        ENV
    params:
        code=code_hash("daar.report.page"),
        templates=[
            files.sha256(path)
            for path in sorted(
                Path(workflow.basedir, "daar/report/templates").iterdir()
            )
        ],
    shell:
        "python -m daar report {input.suite} --only page 2>&1 | tee -i {log}"
