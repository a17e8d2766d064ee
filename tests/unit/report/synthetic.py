"""Run directories of sweeps that were never trained, with known effects, for the tests of reports."""

import itertools
import json
from pathlib import Path

import numpy as np
import yaml

TOKENS = 819_200
ROPE, RMSNORM = "positions=rope, norm=layernorm", "positions=learned, norm=rmsnorm"
BASELINE = "positions=learned, norm=layernorm"


def write_run(
    folder: Path, seed=0, loss=3.0, positions="learned", norm="layernorm", lines=40, tokens=TOKENS, status="completed",
    rate=20_000.0, fingerprint="abc", commit="1" * 40, precision="fp32", device="cpu", unigram=5.5, spare_summary=0,
):  # fmt: skip
    """One run whose loss falls from 7 to ``loss``."""
    folder.mkdir(parents=True)
    config = {
        "model": {
            "n_layer": 4, "n_head": 4, "n_embd": 64, "block_size": 128, "vocab_size": 4096, "tie_head": True,
            "vocab_multiple_of": 1, "positions": {"name": positions}, "norm": {"name": norm},
        },
        "data": {"name": "text"},
        "training": {"max_steps": tokens // 1024, "batch_tokens": 1024, "sequence_length": None},
        "runtime": {"device": "cpu", "precision": precision},
        "seed": seed,
        "run_dir": str(folder),
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "environment.json").write_text(json.dumps({"git_commit": commit, "git_changed_files": ""}))
    rng = np.random.default_rng(seed)
    with (folder / "metrics.jsonl").open("w") as file:
        for n in range(1, lines + 1):
            share = n / lines
            seen = round(tokens * share)
            now = loss + (7 - loss) * np.exp(-5 * share) * (1 - share)
            line = {
                "step": seen // 1024, "tokens": seen, "loss": round(now + rng.normal(0, 0.05), 6),
                "grad_norm": 1.2345678, "lr": 0.0047, "param_norm": 33.3, "tokens_per_second": round(rate),
                "memory_bytes": 358_260_736,
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")
            if n % max(1, lines // 10) == 0:
                file.write(json.dumps({"step": seen // 1024, "tokens": seen, "val_loss": round(now, 6)}) + "\n")
    summary = {"status": status, "tokens": tokens, "steps": tokens // 1024}
    if not spare_summary:
        summary |= {
            "parameters": 470_000, "tokens_per_second": rate, "wall_seconds": tokens / rate, "precision": precision,
            "peak_memory_bytes": 358_260_736, "val_tokens": 32_768, "unigram_loss": unigram,
            "data_fingerprint": fingerprint, "device": device,
        }  # fmt: skip
        if status == "completed":
            summary["val_loss"] = None if loss is None else float(loss)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_sweep(
    folder: Path, seeds=5, positions=("learned", "rope"), norms=("layernorm", "rmsnorm"), noise=0.003, block=0.02,
    effects=None, lines=40, lengths=(TOKENS,), seed=0,
):  # fmt: skip
    """A complete grid: a seed effect of sd ``block``, a residual of sd ``noise``, and effects by level."""
    effects = {"rope": -0.05, **(effects or {})}
    rng = np.random.default_rng(seed)
    blocks = rng.normal(0, block, seeds)
    axes = {"model/positions": list(positions), "model/norm": list(norms)}
    if len(lengths) > 1:
        axes["training.max_steps"] = [str(tokens // 1024) for tokens in lengths]
    axes["seed"] = [str(s) for s in range(seeds)]
    jobs = []
    for position, norm, tokens, s in itertools.product(positions, norms, lengths, range(seeds)):
        length = f",max_steps={tokens // 1024}" if len(lengths) > 1 else ""
        condition = f"positions={position},norm={norm}{length}"
        name = f"{condition},seed={s}"
        loss = 3.1 + 60 * (tokens**-0.3 - TOKENS**-0.3) + blocks[s] + rng.normal(0, noise)
        loss += effects.get(position, 0) + effects.get(norm, 0)
        rate = 18_000.0 if position == "rope" else 20_000.0
        write_run(folder / name, s, loss, position, norm, lines, tokens, rate=rate)
        overrides = [f"model/positions={position}", f"model/norm={norm}", f"seed={s}"]
        overrides += [f"training.max_steps={tokens // 1024}"] if length else []
        job = {"name": name, "condition": condition, "overrides": overrides, "run_dir": name, "status": "completed"}
        jobs.append({**job, "attempts": 1, "error": None, "tuning": False})
    record = {"schema_version": 1, "name": folder.name, "axes": axes, "seeds": axes["seed"], "jobs": jobs}
    write_record(folder, record)
    return folder


def read_record(folder: Path):
    return json.loads((folder / "sweep.json").read_text())


def write_record(folder: Path, record):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(record))


def add_tuning(folder: Path):
    """A tuning record: the optimum of ``learned`` inside the grid, that of ``rope`` at its edge."""
    record = read_record(folder)
    values = [0.001, 0.002, 0.004, 0.008, 0.016]
    record["tuning_key"] = "optimizer.lr"
    record["tuning"] = {
        "positions=learned,norm=layernorm": {
            "best": 0.0042, "values": values, "mean_losses": [3.3, 3.18, 3.11, 3.17, 3.4], "at_edge": False,
        },
        "positions=rope,norm=layernorm": {
            "best": 0.016, "values": values, "mean_losses": [3.3, 3.2, 3.1, 3.05, 3.02], "at_edge": True,
        },
    }  # fmt: skip
    write_record(folder, record)


def change_summary(run: Path, **values):
    summary = json.loads((run / "summary.json").read_text())
    summary.update(values)
    (run / "summary.json").write_text(json.dumps({k: v for k, v in summary.items() if v != "remove"}))


def conditions_of(report):
    return {condition.name: condition for condition in report.conditions}


def of(folder, positions, seed, norm="layernorm"):
    return folder / f"positions={positions},norm={norm},seed={seed}"


def write_sizes(folder, loss_of, widths=(32, 64, 128, 256, 512), seeds=3):
    """Runs of several widths with 20 tokens for each of their parameters."""
    rng, paths = np.random.default_rng(0), []
    for width, seed in itertools.product(widths, range(seeds)):
        parameters = 2_000 * width + 48 * width**2
        path = write_run(
            folder / f"n_embd={width},seed={seed}", seed, loss_of(parameters) + rng.normal(0, 0.003),
            tokens=20 * parameters,
        )  # fmt: skip
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["model"]["n_embd"], config["training"]["tokens_per_parameter"] = width, 20
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        change_summary(path, parameters=parameters)
        paths.append(str(path))
    return paths
