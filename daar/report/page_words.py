"""The page's words about the numbers: who is ahead and how surely, what was run, what the numbers do not show."""

import statistics

import pandas as pd

from daar.report.differences import between
from daar.report.fairness import own_ratios
from daar.report.names import pair_title, removed
from daar.report.table_text import signed
from daar.suite.names import Names


def findings(rows: pd.DataFrame, names: Names) -> list[str]:
    """One sentence per target of one (dataset, network): the best method, and whether it leads the next one."""
    where = pair_title(str(rows["network"].iloc[0]), str(rows["dataset"].iloc[0]))
    compared = rows[~own_ratios(rows) & ~rows["control"] & rows["top1_tuned"].notna()]
    return [
        f"{where}, {removed(float(str(target)))}: {_finding(members, names)}"
        for target, members in compared.groupby("target")
    ]


def _finding(rows: pd.DataFrame, names: Names) -> str:
    by_row = {
        names.row(str(variant), str(policy)): dict(zip(members["seed"], members["top1_tuned"], strict=True))
        for (variant, policy), members in rows.groupby(["variant", "policy"])
    }
    means = {name: statistics.fmean(seeds.values()) for name, seeds in by_row.items()}
    ranked = sorted(means, key=lambda name: (-means[name], name))
    best = f"{means[ranked[0]]:.2f}%"
    if len(ranked) == 1:
        return f"{ranked[0]} reaches {best}; there is no other method to compare it with."
    lead = between(by_row[ranked[0]], by_row[ranked[1]])
    if lead.tied is None:
        return (
            f"{ranked[0]} has the highest accuracy, {best}, above {ranked[1]} with {means[ranked[1]]:.2f}%; "
            "with fewer than two common seeds there is no interval, so this may be chance."
        )
    interval = f"95% interval {signed(lead.low)} to {signed(lead.high)}, {lead.n} seeds"
    if lead.tied:
        return f"{ranked[0]} ({best}) and {ranked[1]} are tied, {signed(lead.mean)} points apart ({interval})."
    return f"{ranked[0]} is ahead with {best}, {lead.mean:.2f} points above {ranked[1]} ({interval})."


def run_facts(results: pd.DataFrame) -> str:
    """What was run, in a sentence or two."""
    if results.empty:
        return "No setting has finished."
    seeds, epochs = results["seed"].nunique(), sorted(set(results.loc[~results["control"], "epochs"]))
    bases = results["base_sha256"].nunique()
    machines = sorted(set(results["hardware_gpu"].fillna(results["hardware_cpu"])))
    tuning = (
        f"tuned for {' or '.join(map(str, epochs))} epoch{'' if epochs == [1] else 's'}" if any(epochs) else "not tuned"
    )
    return (
        f"{_number(len(results), 'pruned network')} of {_number(bases, 'dense network')}, from "
        f"{_number(seeds, 'seed')}, {tuning}, on {', '.join(machines)}. "
        "Accuracy is top-1 on the test images after the last epoch of tuning."
    )


def limits(results: pd.DataFrame) -> list[str]:
    """What the numbers do not show."""
    notes = [
        "An interval compares two rows and is not corrected for how many are compared; with few seeds it is wide.",
        "Tied means that these runs do not tell the two apart, not that they are equal.",
        "All methods were tuned by the same recipe; another recipe may order them otherwise.",
        "MACs are counted, not timed: fewer of them need not run faster.",
    ]
    if results["imported"].any():
        notes.append("A dense network was imported: seeds vary its tuning, not its training.")
    return notes


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
