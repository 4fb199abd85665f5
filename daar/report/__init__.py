"""From the records of one suite to its results.csv, its tables, its figures and its page.

One function for each step, as the workflow has a rule for each: `write_results` reads
records, `write_tables` reads results.csv and nothing else, `write_figures` also the plans, importances and records
beside it, `write_stability` the JSON files of `daar stability`, `write_attention` what `daar explain` wrote.
`write_page` takes up what the others wrote.
"""

from daar.report.attention import write_attention
from daar.report.collect import write_results
from daar.report.context import of_suite
from daar.report.failures import split as split_failed
from daar.report.figures import write_figures
from daar.report.ledger import write_ledger
from daar.report.page import write_page
from daar.report.published import write_published
from daar.report.stability import write_stability
from daar.report.tables import write_tables

__all__ = [
    "of_suite",
    "split_failed",
    "write_attention",
    "write_figures",
    "write_ledger",
    "write_page",
    "write_published",
    "write_results",
    "write_stability",
    "write_tables",
]
