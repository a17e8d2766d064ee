"""The cases of ``fault_campaign``: damaged files, wrong values of every key, full disks, wrong kinds of path."""

import dataclasses
import json
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.cli.compose import JOBS
from gpt2lab.runs.records import COMPLETED
from gpt2lab.sweeps.record import JobRecord, SweepRecord, write_sweep
from tests.integration.conftest import TINY, copy_corpus, run_in

STEP = "runs/one/checkpoints/step_00000002"
ONE_STEP = ["training.max_steps=3", "training.eval_tokens=1024"]
BPE = ["tokenizer=bpe", "tokenizer.vocab_size=300"]
TRAIN = ["train.py", *TINY, *ONE_STEP, "run_dir=runs/new"]
RESUME = ["train.py", *TINY, *ONE_STEP, "run_dir=runs/one", "resume=auto"]
EVAL = ["eval.py", "checkpoint=runs/one"]
SAMPLE = ["sample.py", "checkpoint=runs/one", "sampling.max_new_tokens=4"]
REPORT = ["report.py", "sweep=runs/sweeps/study", "out=report"]
PREPARE = ["prepare.py", *TINY[:4]]


@dataclass(frozen=True)
class Case:
    """One command in one state of the files."""

    label: str
    command: list[str]
    damage: Callable[[Path], None] | None = None
    names: tuple[str, ...] = ()
    """one of them must be in the error line"""
    may_write: tuple[str, ...] = ()
    """beginnings of the files that a command may write when it succeeds"""
    file_limit: int | None = None
    """bytes of the largest file that can be written, as on a full disk"""
    may_leave: bool = False
    """a run that has begun keeps its record when it fails"""


def make_workplace(folder: Path) -> None:
    """A corpus, a run, a sweep of two runs, an export with a BPE, an evaluation, and a file of the user's."""
    copy_corpus(folder)
    (folder / "mine").mkdir()
    (folder / "mine" / "book.txt").write_text("It was the best of times.\n" * 40)
    settings = ["training.max_steps=2", "samples.every=1", "samples.sampling.max_new_tokens=4"]
    run_in(folder, "train.py", *TINY, *settings, "run_dir=runs/one")
    run_in(folder, "train.py", *TINY, *BPE, *settings, "run_dir=runs/bpe")
    run_in(folder, "eval.py", "checkpoint=runs/one")
    run_in(folder, "export.py", "checkpoint=runs/bpe", "out=exported")
    jobs = []
    for seed in (1, 2):
        run_in(folder, "train.py", *TINY, *settings, f"seed={seed}", f'run_dir="runs/sweeps/study/seed={seed}"')
        jobs.append(JobRecord(f"seed={seed}", "default", [f"seed={seed}"], f"seed={seed}", COMPLETED))
    write_sweep(
        folder / "runs" / "sweeps" / "study", SweepRecord("study", {"seed": ["1", "2"]}, ["1", "2"], [], [], None, jobs)
    )


RECORDS = "runs/one/"
WRITTEN_BY_RESUME = (RECORDS, "data/")
READERS: list[tuple[str, list[list[str]]]] = [
    ("runs/one/config.yaml", [EVAL, ["train.py", "from=runs/one", "run_dir=runs/new", *ONE_STEP]]),
    ("runs/one/environment.json", [RESUME]),
    ("runs/one/summary.json", [RESUME, EVAL]),
    ("runs/one/metrics.jsonl", [RESUME]),
    ("runs/one/samples.jsonl", [RESUME]),
    ("runs/one/eval.json", [EVAL]),
    ("runs/one/documents.jsonl", [EVAL]),
    (f"{STEP}/checkpoint.json", [RESUME, EVAL, SAMPLE]),
    (f"{STEP}/model.safetensors", [RESUME, EVAL, SAMPLE]),
    (f"{STEP}/optimizer.pt", [RESUME]),
    ("data/library/bytes/manifest.json", [TRAIN, EVAL, [*PREPARE, "verify=true"], [*PREPARE, "inspect=true"]]),
    ("data/library/bytes/train_000000.npy", [TRAIN, [*PREPARE, "verify=true"]]),
    ("data/library/bytes/val_000000.npy", [TRAIN, EVAL]),
    ("data/library/bytes/val_000000.starts.npy", [TRAIN, EVAL]),
    ("data/library/bpe_300/tokenizer.json", [[*TRAIN, *BPE]]),
    ("data/library/bpe_300/tokenizer_config.json", [[*TRAIN, *BPE]]),
    ("runs/sweeps/study/sweep.json", [REPORT, ["eval.py", "checkpoint=runs/sweeps/study"]]),
    ("runs/sweeps/study/seed=1/config.yaml", [REPORT]),
    ("runs/sweeps/study/seed=1/summary.json", [REPORT]),
    ("runs/sweeps/study/seed=1/environment.json", [REPORT]),
    ("runs/sweeps/study/seed=1/metrics.jsonl", [REPORT]),
    *(
        (
            f"exported/{name}",
            [
                ["sample.py", "checkpoint=exported", "sampling.max_new_tokens=4"],
                ["export.py", "checkpoint=exported", "out=again"],
            ],
        )
        for name in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
        )
    ),
    ("argparse.py", [TRAIN, PREPARE, ["eval.py", "checkpoint=runs/one", "eval.text_file=argparse.py"]]),
]
"""each file, and commands that read it"""

OUTPUTS = {
    "train.py": ("runs/", "data/"),
    "eval.py": ("runs/one/", "runs/sweeps/study/", "eval.json", "documents.jsonl"),
    "report.py": ("report/",),
    "export.py": ("again/",),
    "prepare.py": ("data/",),
    "sample.py": (),
    "explain.py": ("explain",),
}


def _flip(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 0x55]) + content[len(content) // 2 + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "flipped": _flip,
    "flipped early": lambda content: content[:5] + bytes([content[5] ^ 0x80]) + content[6:],
    "not UTF-8": lambda content: b"\xff\xfe" + content,
    "deep": lambda content: b"[" * 100_000,
    "deep object": lambda content: b'{"a":' * 100_000,
    "null": lambda content: b"null",
    "list": lambda content: b"[1]",
    "no keys": lambda content: b"{}",
    "text": lambda content: b"hello",
    "longer": lambda content: content + b"x",
}


def _values_replaced(content: bytes, value: object) -> bytes:
    """Each line of JSON objects, with every value replaced."""
    lines = [content] if content.lstrip().startswith(b"{\n") else content.splitlines()
    return b"\n".join(json.dumps(dict.fromkeys(json.loads(line), value)).encode() for line in lines)


MISFITS = {"texts": "x", "negative": -1, "nulls": None, "lists": [[1]], "huge": 10**30, "fractions": 0.5}


def damaged_files() -> Iterator[Case]:
    """Every file with every damage, read by each command that reads it."""
    for file, commands in READERS:
        damages = dict(DAMAGES)
        if file.endswith((".json", ".jsonl")):
            damages |= {name: lambda c, value=value: _values_replaced(c, value) for name, value in MISFITS.items()}
        for name, damage in damages.items():

            def apply(folder: Path, damage: Callable[[bytes], bytes] = damage, file: str = file) -> None:
                (folder / file).write_bytes(damage((folder / file).read_bytes()))

            for command in commands:
                named = (Path(file).name, Path(file).stem, str(Path(file).parent))
                yield Case(f"damaged {file} ({name})", command, apply, named, OUTPUTS[command[0]])
        for command in commands:
            yield Case(
                f"missing {file}", command, lambda folder, file=file: (folder / file).unlink(), (), OUTPUTS[command[0]]
            )
            yield Case(f"a folder for {file}", command, _folder_for(file), (), OUTPUTS[command[0]])


def _folder_for(file: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return apply


VALUES = ("-1", "0", "1000000000", "1e300", "nan", "inf", "null", "[[1]]", "{a: 1}", "text", "[]", "''", "true")
START: dict[str, list[str]] = {
    "train": TRAIN,
    "eval": EVAL,
    "sample": SAMPLE,
    "prepare": [*PREPARE, "prepare.overwrite=true"],
    "export": ["export.py", "checkpoint=runs/one", "out=again"],
    "report": REPORT,
    "explain": ["explain.py", "checkpoint=runs/one"],
}
WHOLE_WORK = (
    "training.max_steps", "training.max_tokens", "training.max_epochs", "training.batch_tokens",
    "sampling.max_new_tokens", "sampling.num_samples",
    "samples.sampling.max_new_tokens", "samples.sampling.num_samples", "steps",
)  # fmt: skip
"""keys whose large values are hours of work that the user asked for"""


def keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a job, its groups included."""
    for name, hint in typing.get_type_hints(kind).items():
        yield prefix + name
        if dataclasses.is_dataclass(hint):
            yield from keys(typing.cast(type, hint), f"{prefix}{name}.")


def wrong_values() -> Iterator[Case]:
    """Every key of every command with values that make no sense for most."""
    for name, job in JOBS.items():
        for key in keys(job):
            if key.startswith(("logger", "data.")) or key in ("data", "logger"):
                continue
            for value in VALUES:
                if key in WHOLE_WORK and value in ("1000000000", "1e300"):
                    continue
                named = (key.rsplit(".", 1)[-1], key.split(".")[0], value.strip("'{}[]"))
                command = [*START[name], f"{key}={value}"]
                yield Case(f"value {name} {key}={value}", command, None, named, ("",), may_leave=True)


def full_disks() -> Iterator[Case]:
    """Every command that writes, on a disk that is full after so many bytes."""
    commands = [TRAIN, RESUME, EVAL, REPORT, START["export"], START["explain"], [*PREPARE, "data.name=other"],
                ["prepare.py", *TINY[:4], "tokenizer=gpt2"]]  # fmt: skip
    for command in commands:
        for limit in (2_000, 5_000, 20_000, 60_000, 200_000):
            yield Case(f"full disk after {limit} bytes: {command[0]}", command, None, (), ("",), limit, may_leave=True)


PLACES = (
    "/dev/null", "/dev/full", "/proc/self/mem", "/proc/nowhere/deep", "mine", "mine/book.txt", "mine/book.txt/x", "",
    ".", "..", "a\\nb", "é", "-", "--", "~", "x" * 300, "dangling", "loop", "locked/x",
)  # fmt: skip
PATH_KEYS = {
    "train": ["run_dir", "resume", "init_from", "data.root", "data.name", "data.files"],
    "eval": ["checkpoint", "baseline", "out", "eval.text_file", "eval.corpus.file", "eval.tasks.folder"],
    "sample": ["checkpoint", "prompt_file", "prompt"],
    "prepare": ["data.root", "data.name", "data.files"],
    "export": ["checkpoint", "out"],
    "report": ["sweep", "runs", "out", "baseline"],
    "explain": ["checkpoint", "out"],
}


def wrong_places() -> Iterator[Case]:
    """Every key that takes a path, with places of other kinds."""

    def links(folder: Path) -> None:
        (folder / "dangling").symlink_to("nowhere")
        (folder / "loop").symlink_to("loop")

    for name, path_keys in PATH_KEYS.items():
        for key in path_keys:
            for place in PLACES:
                value = f"[{place!r}]" if key in ("data.files", "runs") else f'"{place}"'
                label = f"place {name} {key}={place[:20]}"
                yield Case(label, [*START[name], f"{key}={value}"], links, (), ("",), may_leave=True)


def all_cases() -> list[Case]:
    """Every case, in an order in which every n-th is a fair sample."""
    return [*damaged_files(), *full_disks(), *wrong_places(), *wrong_values()]
