"""What `snakemake --logger daar` looks for: a package of this name. See daar/progress/."""

from daar.progress.plugin import LogHandler, LogHandlerSettings

__all__ = ["LogHandler", "LogHandlerSettings"]
