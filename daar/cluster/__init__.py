"""The same suite on a cluster: what each job asks for, how long all take, and whether the scheduler would have it.

Snakemake's executor plugins submit and watch the jobs; nothing here does. Importing this is light, but for what a
command needs torch for.
"""
