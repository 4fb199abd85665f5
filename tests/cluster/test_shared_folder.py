"""A cluster whose node does not see the folder of the run; it has a cluster of its own, as its node is broken."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster import slurm
from tests.cluster.slurm import TINY, ended, on_cluster, wait, written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.missing() is not None, reason=slurm.missing() or ""),
]


def test_nodes_that_do_not_see_the_folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The node's daemon has an empty file system where the run's folder lies."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("not run: no mount namespaces here")
    suite = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    suite.write_text(yaml.safe_dump(TINY))
    folder = tmp_path_factory.mktemp("blind")
    with slurm.cluster(folder, nodes=1) as running:
        running.do("lose", "n0")
        wait(lambda: running.state("n0").startswith("down"), 120, "n0 to be down")
        hidden = f"mount -t tmpfs none {tmp_path} && exec slurmd -N n0 -D"
        node = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", hidden], env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        )
        try:
            wait(lambda: running.state("n0") == "idle", 60, "n0 to be back")
            assert ended(on_cluster(tmp_path, suite), tmp_path) == 2
        finally:
            node.kill()
            node.wait()
    last = written(tmp_path).rstrip().splitlines()[-1]
    assert "a node does not see" in last
    assert "on a file system that all nodes share" in last
