"""From the records of a suite to its results.csv, tables, figures and page; one module for each output.

`collect` reads records and writes results.csv; `tables` reads results.csv and nothing else; the figures also the plans,
importances and records in the folders of the settings; `page` shows what the others wrote.
"""
