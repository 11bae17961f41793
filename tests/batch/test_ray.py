"""Clusters of Ray on this machine: killed at random, each row is recorded once."""

import collections
import functools
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.batch import paint, pictures_of, read_index
from kerasdiffusion.batch.ray_engine import counts
from kerasdiffusion.requests.request import Request
from tests.batch import bucket, cluster
from tests.batch.stand_in import StandIn, painted, picture_of

if keras.backend.backend() != "tensorflow":
    pytest.skip("the children choose their backends", allow_module_level=True)

assert bucket  # (which has its URLs known)
HOSTS = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0, "TPU": 4.0}, {"CPU": 4.0}]


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [
        ("auto", {"gpu": 2, "tpu": 4}),
        ("gpu", {"gpu": 2}),
        ("gpu:1,cpu:2", {"gpu": 1, "cpu": 2}),
        ("cpu", {"cpu": 3}),
    ],
)
def test_devices_by_what_hosts_have(devices, wanted):
    assert counts(devices, HOSTS) == wanted


@pytest.mark.parametrize("devices", ["gpu:3", "npu", "gpu:x", "gpu,gpu", "tpu:0", ""])
def test_devices_that_are_not_there_are_refused(devices):
    with pytest.raises(ValueError, match="`devices` must be"):
        counts(devices, HOSTS)


def check(folder, count: int, kills: list[str], actors: int, picture) -> None:
    """That each row is recorded once, its picture whole, and little was done twice."""
    lines = [
        line
        for part in (folder / "out/index").rglob("*.jsonl")
        for line in part.read_text().splitlines()
    ]
    assert len(lines) == count
    records = list(read_index(folder / "out"))
    assert sorted(each["name"] for each in records) == sorted(
        each["name"] for each in cluster.rows_of(count)
    )
    for each in records:
        (file,) = each["files"]
        shown = np.asarray(Image.open(folder / "out" / file)).astype(int)
        assert shown.shape == (each["height"], each["width"], 3)
        wanted = picture(each)
        if wanted is not None:
            assert np.abs(shown - wanted.astype(int)).max() <= 1
    # (A batch that fails together is painted one by one, and nobody would see it.)
    together = (folder / "log").read_text().splitlines()
    assert sum(len(line.split()) == 9 for line in together) > len(together) * 0.8
    again = len(painted(folder / "log")) - count
    most = sum(8 * (actors if each == "driver" else 1) for each in kills)
    told = collections.Counter(kills)
    print(f"{count} rows, {dict(told)} killed, {again} painted twice of {most} at most")
    assert 0 <= again <= most


@pytest.mark.heavy
def test_a_cluster_of_stand_ins_is_killed_twenty_times(tmp_path):
    kills = cluster.killed("stand-in", tmp_path, 2000, 20, seconds=0.5)
    assert len(kills) == 20 and set(kills) == {"driver", "worker", "node"}

    def picture(record):
        return picture_of(record["key"], (record["height"], record["width"]))[0]

    check(tmp_path, 2000, kills, 2, picture)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_the_bundled_model_is_killed_twenty_times(tmp_path):
    """Some hundred of the pictures are painted alone, too."""
    from kerasdiffusion import StableDiffusion
    from kerasdiffusion.tasks.sized import Sized

    kills = cluster.killed("emoji", tmp_path, 2000, 20)
    assert len(kills) == 20 and set(kills) == {"driver", "worker", "node"}
    model = StableDiffusion.from_preset("emoji")

    def picture(record):
        if int(record["name"][1:]) % 16:
            return None
        asked = {name: record[name] for name in ("task", "prompt", "seed")}
        view = Sized(model, record["height"], record["width"])
        return view.run(Request(**asked, num_steps=1)).pictures()[0]

    check(tmp_path, 2000, kills, 2, picture)


@pytest.mark.heavy
def test_a_ray_dataset_is_painted_on_the_cluster_that_runs(tmp_path):
    import ray

    ray.init(**cluster.SMALL, log_to_driver=False)
    try:
        rows = ray.data.from_items(cluster.rows_of(40))
        how = {"devices": "cpu", "progress_bar": False}
        assert paint(rows, tmp_path / "out", StandIn, **how).painted == 40
        assert paint(rows, tmp_path / "out", StandIn, **how).before == 40
        with pytest.raises(ValueError, match="must have a column `name`"):
            paint(rows.drop_columns(["name"]), tmp_path / "out", StandIn, **how)
        with pytest.raises(ValueError, match="what the cluster has, 0 of gpu"):
            paint(rows, tmp_path / "out", StandIn, devices="gpu", progress_bar=False)
        killer = cluster.rows_of(20)
        killer[3]["prompt"] = "kill whoever paints it"
        done = paint(killer, tmp_path / "other", StandIn, batch_size=4, **how)
        assert (done.painted, done.failed) == (19, 1)
        (failed,) = (x for x in read_index(tmp_path / "other") if "error" in x)
        assert failed["name"] == "r3"
        assert failed["error"] == "The process that painted it has ended, 3 times."
    finally:
        ray.shutdown()


@pytest.mark.heavy
def test_a_missing_model_is_one_error(tmp_path):
    import ray

    ray.init(**cluster.SMALL, log_to_driver=False)
    try:
        with pytest.raises((ValueError, OSError), match="no/such/model"):
            paint(cluster.rows_of(1), tmp_path, "no/such/model", progress_bar=False)
    finally:
        ray.shutdown()


class Told(StandIn):
    """Writes down what it has of the driver's environment."""

    def begin(self):
        names = ("HF_TOKEN", "HF_HOME", "AWS_SECRET_ACCESS_KEY")
        with open(self.log, "a") as file:
            told = (os.environ.get(name, "none") for name in names)
            file.write(f"{' '.join(told)}\n")


@pytest.mark.heavy
def test_actors_have_a_token_that_ray_shows_nobody(tmp_path, monkeypatch):
    """In none of its logs; the dashboard shows what these have of `runtime_env`."""
    import ray

    secret = "hf_0123456789secret"
    ray.init(**cluster.SMALL, log_to_driver=False)
    try:
        monkeypatch.setenv("HF_TOKEN", secret)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        monkeypatch.setenv("HF_HOME", "/shared/hub")
        make = functools.partial(Told, tmp_path / "told")
        paint(cluster.rows_of(8), tmp_path / "out", make, progress_bar=False)
        told = f"{secret} /shared/hub {secret}\n"
        assert (tmp_path / "told").read_text().startswith(told)
        session = Path(ray._private.worker._global_node.get_session_dir_path())
        logs = [each for each in session.rglob("*") if each.is_file()]
        found = [each for each in logs if secret.encode() in each.read_bytes()]
        assert len(logs) > 5 and not found
    finally:
        ray.shutdown()


@pytest.mark.heavy
def test_hosts_of_several_sizes_paint_one_batch(tmp_path):
    import ray
    from ray.cluster_utils import Cluster

    sizes = (1, 3)
    found = Cluster(
        initialize_head=True, head_node_args={**cluster.SMALL, "num_cpus": 0}
    )
    try:
        for each in sizes:
            found.add_node(**{**cluster.SMALL, "num_cpus": each})
        found.wait_for_nodes()
        ray.init(found.address, log_to_driver=False)
        make = functools.partial(StandIn, tmp_path / "log", 0.1)
        how = {"devices": "cpu:4", "batch_size": 4, "progress_bar": False}
        rows = cluster.rows_of(80)
        assert paint(rows, tmp_path / "out", make, **how).painted == 80
        by = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
        assert len(by) == 4
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.mark.heavy
def test_a_cluster_paints_into_a_bucket(tmp_path):
    import ray

    url = f"bucket://{tmp_path}/out"
    ray.init(**cluster.SMALL, log_to_driver=False)
    try:
        make, rows = functools.partial(InBucket, tmp_path / "log"), cluster.rows_of(40)
        how = {"devices": "cpu", "progress_bar": False}
        assert paint(rows, url, make, **how).painted == 40
        assert paint(rows, url, make, **how).before == 40
    finally:
        ray.shutdown()


class InBucket(StandIn):
    """In whose process the bucket's URLs are known."""

    def __init__(self, log):
        from tests.batch import bucket

        assert bucket
        super().__init__(log)


def counted(out, share, of):
    """How many pictures a share has, and who has looked."""
    return sum(1 for _ in pictures_of(out, share, of)), os.getpid()


@pytest.mark.heavy
def test_pictures_are_looked_at_by_all_devices(tmp_path):
    from kerasdiffusion.batch.spreading import OnCluster

    paint(cluster.rows_of(20), tmp_path / "out", StandIn, progress_bar=False)
    with cluster.cluster(2) as found:
        where = OnCluster("cpu", found.address)
        shares = where.over(functools.partial(counted, tmp_path / "out"))
        assert sum(count for count, _ in shares) == 20
        assert len({own for _, own in shares}) == 2
        with pytest.raises(FileNotFoundError, match="must be a batch to read"):
            where.over(functools.partial(counted, tmp_path / "none"))
