"""A default is written once, in its dataclass: a YAML file says only what differs from it."""

import pytest
from omegaconf import OmegaConf

from gpt2lab.cli.compose import CONFIG_DIR, JOBS
from gpt2lab.config import DATA_SOURCES, EvalJob, SampleJob, TrainJob

JOB_OF_GROUP = {"eval": EvalJob, "sampling": SampleJob}
SHAPE = {"n_layer", "n_head", "n_embd", "block_size"}


def is_exception(file, key):
    """Values that repeat a default on purpose."""
    group, name = file.parent.as_posix(), key.rpartition(".")[2]
    return (
        # a model says its whole shape
        (group == "model" and name in SHAPE)
        # a file of a variant, dataset or corpus says which one it is
        or (name == "name" and group != ".")
        # a study sets back what train.yaml, or the file of the optimizer, chose
        or (file.as_posix(), key)
        in (("experiment/study_nano.yaml", "samples.every"), ("experiment/scaling.yaml", "optimizer.lr"))
    )


def schema_of(file, text):
    """The dataclasses' defaults at the place where a config file is put."""
    group = file.parent.as_posix()
    if group == ".":
        return OmegaConf.structured(JOBS.get(file.stem, TrainJob))
    if group == "data":
        (source,) = (name for name in DATA_SOURCES if f"/schema/data/{name}@_here_" in text)
        return OmegaConf.structured(DATA_SOURCES[source])
    job = OmegaConf.structured(JOB_OF_GROUP.get(group.partition("/")[0], TrainJob))
    return job if "# @package _global_" in text else OmegaConf.select(job, group.replace("/", "."))


def leaves(node, prefix=""):
    for key in node:
        if OmegaConf.is_dict(node) and not OmegaConf.is_interpolation(node, key) and OmegaConf.is_dict(node[key]):
            yield from leaves(node[key], f"{prefix}{key}.")
        elif not OmegaConf.is_interpolation(node, key):
            yield f"{prefix}{key}"


def repeated_defaults(file, text):
    values = OmegaConf.create(text)
    for key in ("defaults", "hydra"):  # Hydra's own
        values.pop(key, None)
    schema = schema_of(file, text)
    merged = OmegaConf.merge(schema, values)
    return [key for key in leaves(values) if OmegaConf.select(merged, key) == OmegaConf.select(schema, key)]


@pytest.mark.parametrize("file", [path.relative_to(CONFIG_DIR) for path in sorted(CONFIG_DIR.rglob("*.yaml"))], ids=str)
def test_file_repeats_no_default(file):
    text = (CONFIG_DIR / file).read_text()
    assert [key for key in repeated_defaults(file, text) if not is_exception(file, key)] == []
