"""What torchrun starts, Spark and Ray start too; skipped where they are missing."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import launched
import numpy as np
import pytest
import torch.distributed as dist
from parallel_cases import arrays, numbers_of

from skgd import data_parallel
from skgd._estimators.parallel import Together, together_now, training_together

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

FOLDER = str(Path(__file__).parent)


@pytest.fixture
def alone():
    """Return the weights of a group of one that has the partitions of both ranks."""
    of = arrays()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    partitions = [(0, launched.CUT), (1, len(of.X) - launched.CUT)]
    with data_parallel():
        both = Together(together_now().ranks, partitions)
        with training_together(both):
            fitted = launched.model().fit(of.X, of.y)
    dist.destroy_process_group()
    return numbers_of(fitted)["weights"]


def assert_alike(folder, alone):
    """Hold what both ranks have written down against each other, and one process."""
    first, second = (np.load(folder / f"rank{rank}.npy") for rank in (0, 1))
    assert first.tobytes() == second.tobytes()
    np.testing.assert_allclose(first, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(
    not find_spec("pyspark") or not shutil.which("java"), reason="no Spark, or no Java"
)
def test_spark_starts_a_fit(alone, tmp_path, monkeypatch):
    """Its TorchDistributor runs the function on two processes."""
    from pyspark.ml.torch.distributor import TorchDistributor
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYTHONPATH", FOLDER, prepend=os.pathsep)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    start = TorchDistributor(num_processes=2, local_mode=True, use_gpu=False)
    start.run(launched.train, {"folder": str(tmp_path)})
    session.stop()
    assert_alike(tmp_path, alone)


@pytest.mark.skipif(not find_spec("ray"), reason="no Ray")
def test_ray_starts_a_fit(alone, tmp_path, monkeypatch):
    """Its TorchTrainer runs the function on two workers."""
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "240")
    import ray
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    monkeypatch.setenv("PYTHONPATH", FOLDER, prepend=os.pathsep)
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    ray.init(num_cpus=3, runtime_env={"env_vars": path})
    trainer = TorchTrainer(
        launched.train,
        train_loop_config={"folder": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2),
    )
    trainer.fit()
    ray.shutdown()
    assert_alike(tmp_path, alone)
