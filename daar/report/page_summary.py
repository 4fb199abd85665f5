"""The three sentences that open the page: what was compared, who is ahead and how surely, what it does not show."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from daar.report.collect import untuned
from daar.report.fairness import own_ratios
from daar.report.names import pair_title, seeds_counted
from daar.report.page_words import Lead, leads
from daar.report.table_text import signed
from daar.suite.names import Names

_LISTED = 4  # names, or comparisons, in a sentence; more are counted


def summary(results: pd.DataFrame, names: Names) -> list[Markup]:
    """Three sentences, with the names of rows in bold; one where nothing has finished.

    Args:
        results: the finished rows of results.csv.
        names: of the rows.
    """
    done = results[results["top1_tuned"].notna()]
    if done.empty:
        return [Markup("No setting has finished, so there is nothing to compare.")]
    found = [
        Placed(pair_title(str(network), str(dataset)), target, lead)
        for (dataset, network), rows in done.groupby(["dataset", "network"])
        for target, lead in leads(rows, names)
    ]
    return [_compared(done, names), _ahead(found), _not_shown(done)]


class Placed(NamedTuple):
    """Who leads at one target of one pair."""

    where: str
    target: str
    lead: Lead

    @property
    def interval(self) -> str:
        """Of the lead over the second."""
        points = self.lead.points
        return f"{signed(points.mean)} points, 95% interval {signed(points.low)} to {signed(points.high)}"


def _compared(done: pd.DataFrame, names: Names) -> Markup:
    keys = done[["variant", "policy", "control"]].drop_duplicates()
    rows = {control: sorted({names.row(v, p) for v, p, c in keys.itertuples(index=False) if c == control})
            for control in (False, True)}  # fmt: skip
    methods = _bold(rows[False], "methods and variants of them") if rows[False] else Markup("no method")
    controls = Markup("")
    if rows[True]:
        controls = Markup(" and {} control{}").format(len(rows[True]), "" if len(rows[True]) == 1 else "s")
    pairs = [pair_title(str(network), str(dataset)) for (dataset, network), _ in done.groupby(["dataset", "network"])]
    where = _list(pairs) if len(pairs) <= _LISTED else f"{len(pairs)} pairs of network and data set"
    targets = [f"{100 * float(target):g}%" for target in sorted(done.loc[~own_ratios(done), "target"].unique())]
    sizes = [f"with {_list(targets)} of the MACs removed"] if targets else []
    sizes += ["at ratios of their own"] if own_ratios(done).any() else []
    return Markup("This page compares {}{} on {}, {}, over {}.").format(
        methods, controls, where, " and ".join(sizes), seeds_counted(done)
    )


def _ahead(found: Sequence[Placed]) -> Markup:
    known = [one for one in found if one.lead.second is not None]
    if not known:
        return Markup("There are no two methods at one target, so none is ahead.")
    if len(known) > _LISTED:
        return _counted(known)
    several = len({one.where for one in known}) > 1
    order = sorted(known, key=lambda one: (one.where, one.lead.best, str(one.lead.second)))
    parts = []
    for (where, best, second), members in groupby(order, key=lambda one: (one.where, one.lead.best, one.lead.second)):
        text = Markup("{}<b>{}</b> ").format(f"on {where} " if several else "", best)
        clauses = list(_clauses(list(members), Markup("<b>{}</b>").format(second)))
        parts.append(text + _list(clauses))
    text = Markup("; ").join(parts) + "."
    return text if text[0] == "<" else Markup(str(text[0]).upper()) + text[1:]


def _clauses(members: Sequence[Placed], second: Markup) -> Iterator[Markup]:
    """What holds for the best of one pair of rows, those it leads first; the second is named once."""
    words = {False: "is ahead of {} at {}", True: "is tied with {} at {}", None: "is above {} at {}"}
    named = False
    for tied, text in words.items():
        own = [one for one in members if one.lead.points.tied is tied]
        if not own:
            continue
        how = [
            f"{one.target} ({one.interval})"
            if tied is not None
            else f"{one.target} ({signed(one.lead.points.mean)} points, no interval: this may be chance)"
            for one in own
        ]
        yield Markup(text).format("it" if named else second, _list(how))
        named = True


def _counted(known: Sequence[Placed]) -> Markup:
    """Many comparisons, by outcome; each is listed below the sentences."""
    ahead: dict[str, int] = {}
    for one in known:
        if one.lead.points.tied is False:
            ahead[one.lead.best] = ahead.get(one.lead.best, 0) + 1
    tied = sum(one.lead.points.tied is True for one in known)
    chance = sum(one.lead.points.tied is None for one in known)
    parts = [
        Markup("<b>{}</b> is ahead in {}").format(name, count)
        for name, count in sorted(ahead.items(), key=lambda item: (-item[1], item[0]))
    ]
    parts += [Markup("the first two are tied in {}").format(tied)] if tied else []
    parts += [Markup("{} have no interval").format(chance)] if chance else []
    return Markup("Of {} comparisons at equal MACs, {} (95% intervals, each listed with its network).").format(
        len(known), _list(parts)
    )


def _not_shown(done: pd.DataFrame) -> Markup:
    seeds = done["seed"].nunique()
    those, vary = ("the one seed", "varies") if seeds == 1 else (f"the {seeds} seeds", "vary")
    what, other = ("the calibration images", "tuning") if untuned(done) else ("its tuning", "another recipe of tuning")
    parts = [
        f"other dense networks (one was imported, and {those} {vary} only {what})"
        if done["imported"].any()
        else f"more dense networks than those of {those}",
        other,
    ]
    theirs = ", nor what the authors' own DAAR reaches" if (done["method"] == "daar").any() else ""
    return Markup("It does not show what {} would give{}.").format(_list(parts, "or"), theirs)


def _bold(rows: Sequence[str], what: str) -> Markup:
    if len(rows) > _LISTED + 2:
        return Markup("{} {}").format(len(rows), what)
    return _list([Markup("<b>{}</b>").format(name) for name in rows])


def _list(parts: Sequence[str], word: str = "and") -> Markup:
    """One, two and three; strings are escaped."""
    escaped = [Markup("{}").format(part) for part in parts]
    if len(escaped) < 2:
        return Markup("").join(escaped)
    return Markup(", ").join(escaped[:-1]) + Markup(" {} ").format(word) + escaped[-1]
