# report.html shows all tables and figures, so this file is included after those of the rules that make them.
rule page:
    input:
        rules.collect.output,
        rules.tables.output,
        [getattr(rules, figures.rule(kind)).output for kind in dag.figures],
        rules.ledger.output,
        rules.published.output if dag.published else [],
        rules.stability_report.output if SUITE.stability else [],
        rules.attention.output if dag.explained else [],
        suite=rules.suite.output,
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/page.log",
    localrule: True
    conda:
        ENV
    params:
        code=dag.code("page"),
    shell:
        "python -P -m daar report {input.suite:q} --only page 2>&1 | tee -i {log:q}"
