# A suite's DAG: dense networks → importance → plans → tuned slim networks → records → tables and figures.
#   snakemake --cores all                                           the paper suite
#   snakemake --cores all --configfile workflow/config/demo.yaml    another one
from snakemake.utils import min_version

min_version("9.20")


# Snakemake merges configs key by key: only a run that names no suite may load the default one
if "suite" not in config:

    configfile: f"{workflow.basedir}/workflow/config/paper.yaml"


# SIGTERM goes to all processes of a job that a scheduler ends: shell and `tee` must outlive the stage, which saves its
# state first and says so. Not ignored by the shell, since the stage would inherit that.
# The first part is Snakemake's own prefix, which this replaces.
shell.prefix(
    "set -euo pipefail; trap : TERM; tee() {{ trap '' TERM; command tee \"$@\"; }}; "
)


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/dense.smk"
include: "workflow/rules/prune.smk"
include: "workflow/rules/controls.smk"
include: "workflow/rules/schedules.smk"
include: "workflow/rules/report.smk"


if SUITE.stability:

    include: "workflow/rules/stability.smk"


if SUITE.latency:

    include: "workflow/rules/latency.smk"


include: "workflow/rules/page.smk"


for name, method in SUITE.methods.items():

    include: str(method.rule)

    # a plan that was kept, before any program that makes one
    if dag.reused and workflow.is_rule(f"plan_{name}"):
        workflow.ruleorder("reuse", f"plan_{name}")


rule all:
    default_target: True
    input:
        rules.page.input,
        rules.page.output,
