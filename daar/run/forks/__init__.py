"""One process that has torch loaded, forked for each of the many small jobs of a run.

Loading takes a job seconds of CPU time, a fork of a loaded process hundredths of one. `server` is that process,
`client` is what `python -m daar …` becomes in a job, `starting` is what a run calls. Linux only; everywhere else, and
wherever the server cannot be reached, a job loads what it needs itself.
"""
