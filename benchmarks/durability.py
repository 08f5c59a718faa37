"""Whether model files are whole, undamaged and harmless, whatever becomes of them.

    python -m benchmarks.durability [--mutants 100000] [--kills 200]

* A disk that is full, or a process that is killed, at every byte of a small file:
  what was there before is there as it was.
* Every flip of a single bit, and every truncation: refused.
* Mutants whose checksum is right, so that the reader behind it sees them: none runs
  code, imports, or opens a file, none takes more than 50 ms or 10 MB; each is refused
  with a ValueError, or is a model, and predicts without any other error.
* How long a model of 10 MB takes to be saved and loaded, beside its bytes alone.
* Searches with a checkpoint, killed by SIGKILL at random times and called again: what
  they find is what a search finds that was left alone, to the bit.
* A worker of a search that is killed: how many models are trained twice for it.
* Fits with a checkpoint, of 24 kinds, killed by SIGKILL at random times and called
  again: the model is that of a fit that was left alone, to the bit.
* What a checkpoint costs a fit of ten minutes, written once a minute: by what each part
  of it takes, and by fits of a tenth of that, with a checkpoint and without in turn.
"""

import argparse
import json
import os
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from joblib import parallel_config
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import skgd
from skgd import MiniBatchClassifier, MiniBatchRegressor, write_atomically
from skgd._estimators import base, checkpoints
from skgd._estimators.saved import file_of, model_of
from skgd._machine.fingerprints import fingerprint
from skgd._machine.trees import decode
from skgd._search.fingerprints import fingerprint_of
from skgd._training import compiled

Model = MiniBatchClassifier | MiniBatchRegressor
Reader = Callable[[bytes], Any]

MOST_SECONDS, MOST_BYTES = 0.05, 10_000_000
MOST_SHARE, N_KINDS = 2, 24  # of a fit in percent; of fits that are killed
SAVED_WITHIN = 0.1  # seconds, for 10 MB, beside the disk

# What no reader of a file of data does.
FORBIDDEN = ("exec", "compile", "import", "open", "pickle.", "marshal.", "code.")
FORBIDDEN += ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "winreg.")

_rng = np.random.default_rng(0)
X = _rng.normal(size=(40, 3))


def small_models() -> list[Model]:
    """Return models that have something of all that a file can hold."""
    few = {"max_iter": 3, "tol": None, "batch_size": 16, "engine": "torch"}
    names = np.array(["no", "yes", "maybe"], object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            MiniBatchRegressor(
                hidden_layer_sizes=(2,),
                random_state=np.random.RandomState(0),
                average=True,
                early_stopping=True,
                record_batch_loss=True,
                **few,
            ).fit(X, X @ [1.0, 2.0, 3.0]),
            MiniBatchClassifier(
                class_weight={"no": 1.0, "yes": 2.0, "maybe": np.float32(3)},
                optimizer="sgd",
                momentum=0.9,
                random_state=0,
                **few,
            ).partial_fit(X, names[np.arange(40) % 3], names),
        ]


def smallest_file() -> bytes:
    """Return the file of a model of few bytes."""
    model = MiniBatchRegressor(random_state=0, optimizer="sgd", engine="torch")
    return file_of(model.partial_fit(X, X[:, 0]))


# A write that is cut short

# In a process of its own: the writer alone, for a small process forks fast. It forks
# for every byte, writes in the child, and tells what became of child and file.
CHILD = """
import os, resource, signal, sys
from importlib.util import module_from_spec, spec_from_file_location
path, ignored, step = sys.argv[2], sys.argv[3] == "ignored", int(sys.argv[4])
spec = spec_from_file_location("files", sys.argv[1])
files = module_from_spec(spec)
spec.loader.exec_module(files)
old, new = b"old" * 700, os.urandom(int(sys.argv[5]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN if ignored else signal.SIG_DFL)
told = killed = whole = left = n = 0
for most in range(0, len(new), step):
    with open(path, "wb") as file:
        file.write(old)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        try:
            files.write_atomically(path, new)
        except OSError as error:
            os._exit(3 if "as it was" in str(error) else 4)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    told += os.waitstatus_to_exitcode(status) == 3
    killed += os.waitstatus_to_exitcode(status) == -signal.SIGXFSZ
    whole += open(path, "rb").read() == old
    for name in os.listdir(os.path.dirname(path)):
        if name != os.path.basename(path):
            left += 1
            os.unlink(os.path.join(os.path.dirname(path), name))
    n += 1
files.write_atomically(path, new)
whole += open(path, "rb").read() == new
print(n, told, killed, whole - 1, left)
"""


def cut_short(
    directory: str, *, ignored: bool, n_bytes: int, step: int = 1
) -> list[int]:
    """Write where no file may grow beyond so many bytes, for each number of bytes.

    Return how many writes there were, how many told of an error, were killed, left the
    old file whole, and left something beside it. SIGXFSZ kills, or is ignored as by
    Python, so that the write fails.
    """
    command = [
        *(sys.executable, "-S", "-c", CHILD),
        str(Path(skgd.__file__).parent / "_machine" / "files.py"),
        os.path.join(directory, "model.skgd"),
        "ignored" if ignored else "not",
        str(step),
        str(n_bytes),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(map(int, done.stdout.split()))


# Damage


def damaged(data: bytes) -> Iterator[bytes]:
    """Yield the bytes with each bit flipped, and cut off at each length."""
    for n in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[n] ^= 1 << bit
            yield bytes(flipped)
        yield data[:n]


def n_refused(data: bytes, read: Reader) -> tuple[int, int]:
    """Return how many damaged files there were, and how many were refused."""
    n = refused = 0
    for one in damaged(data):
        n += 1
        try:
            read(one)
        except ValueError:
            refused += 1
    return n, refused


# Mutants

NUMBERS = (0, 1, -1, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
NASTY: tuple[Any, ...] = (
    *NUMBERS,
    *(None, True, False, 1.5, -0.0, 1e308, 10**400, "", "x" * 1000, "\ud800", [], {}),
    *([[]], [0], {"a": 0}, "os.system", "__class__", "cuda:99", "auto"),
    *({"$array": 0}, {"$array": -1}, {"$array": 10**9}, {"$array": True}),
    *({"$list": 0}, {"$scalar": 0}, {"$texts": [0, 1]}, {"$float": "nan"}),
    *({"$float": "1e999"}, {"$tuple": []}, {"$tuple": 0}, {"$dict": [[[], 0]]}),
    *({"$generator": {"$array": 0}}, {"$dict": {"$array": 0}}, {"$array": [0]}),
    *({"$dict": [[0, 1], [0, 2]]}, {"$generator": {}}, {"$old": {"state": {}}}),
    *({"$array": 0, "$list": 0}, {"$nothing": 0}, {"$": 0}),
    *({"__reduce__": ["os.system", ["true"]]}, {"$object": "os.system"}),
)
KINDS = ("<f8", "<f4", "<i8", "|b1", "<U3", "<U9999999", "|S1", "<M8[D]", "<M8[0D]")
KINDS += ("|O", "|V8", "i4,i4", "<c16", "<f16", ">f8", "", "O", "<M8[9999999999s]")
FRONT = struct.Struct("<8sII")


def sealed(data: bytes) -> bytes:
    """Return bytes with the checksum that is right for them."""
    return data + sha256(data).digest()


def parts_of(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the front, the head and the arrays of a file."""
    _, _, n_head = FRONT.unpack_from(data)
    stop = FRONT.size + n_head
    return data[: FRONT.size], data[FRONT.size : stop], data[stop:-32]


def with_head(data: bytes, head: bytes) -> bytes:
    """Return a file with another head, whose length it tells."""
    front, _, arrays = parts_of(data)
    magic, number, _ = FRONT.unpack(front)
    return sealed(FRONT.pack(magic, number, len(head)) + head + arrays)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in a value, with every key or index of it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from places_in(item)


def other_bytes(data: bytes, chance: random.Random) -> bytes:
    """Return a file of which some bytes are others, missing or twice there."""
    body = bytearray(data[:-32])
    for _ in range(chance.randint(1, 4)):
        n = chance.randrange(len(body))
        match chance.randrange(4):
            case 0:
                body[n] = chance.randrange(256)
            case 1:
                del body[n : n + chance.randint(1, 64)]
            case 2:
                body[n:n] = body[n : n + chance.randint(1, 64)]
            case 3:
                body[n] ^= 1 << chance.randrange(8)
    return sealed(bytes(body))


def other_text(data: bytes, chance: random.Random) -> bytes:
    """Return a file of which some characters of the head are others."""
    head = bytearray(parts_of(data)[1])
    for _ in range(chance.randint(1, 3)):
        n = chance.randrange(len(head))
        head[n : n + chance.randint(0, 3)] = chance.choice(
            (b'"', b"{", b"}", b"[", b"]", b",", b":", b"0", b"9" * 5000, b"NaN", b"-")
            + (b"Infinity", b"1e999", b"\\ud800", b"[" * 5000, b'{"a":' * 5000, b"\xff")
        )
    return with_head(data, bytes(head))


def other_values(data: bytes, chance: random.Random) -> bytes:
    """Return a file of which some values of the head are others, or missing."""
    head = json.loads(parts_of(data)[1])
    for _ in range(chance.randint(1, 2)):
        places = list(places_in(head))
        where, key = chance.choice(places)
        match chance.randrange(5):
            case 0 | 1:
                where[key] = deepcopy(chance.choice(NASTY))
            case 2:
                del where[key]
            case 3:
                other, other_key = chance.choice(places)
                where[key] = deepcopy(other[other_key])
            case 4 if isinstance(where, dict):
                new = chance.choice(("fit", "__class__", "t_", "lr", "$array", "a b"))
                where[new] = where.pop(key)
    return with_head(data, json.dumps(head).encode())


def other_table(data: bytes, chance: random.Random) -> bytes:
    """Return a file whose table tells of other arrays."""
    table, tree = json.loads(parts_of(data)[1])
    entry = chance.choice(table)
    match chance.randrange(5):
        case 0:
            entry[0] = chance.choice(KINDS)
        case 1:
            entry[1] = [chance.choice(NUMBERS) for _ in range(chance.randint(0, 9))]
        case 2:
            entry[2] = chance.choice(("C", "F", "A", "K", 0))
        case 3:
            table.insert(chance.randrange(len(table)), list(entry))
        case 4:
            entry[1] = [chance.choice((0, 1, *entry[1])) for _ in range(3)]
    return with_head(data, json.dumps([table, tree]).encode())


def other_front(data: bytes, chance: random.Random) -> bytes:
    """Return a file that tells another format or length of its head."""
    front, head, arrays = parts_of(data)
    magic, number, n_head = FRONT.unpack(front)
    if chance.randrange(4):
        n_head = chance.choice((*NUMBERS, n_head - 1, n_head + 1)) % 2**32
    else:
        number = chance.choice(NUMBERS) % 2**32
    return sealed(FRONT.pack(magic, number, n_head) + head + arrays)


def other_arrays(data: bytes, chance: random.Random) -> bytes:
    """Return a file whose arrays hold other numbers."""
    front, head, arrays = parts_of(data)
    content = bytearray(arrays)
    for _ in range(chance.randint(1, 8)):
        n = chance.randrange(len(content))
        nasty = chance.choice(
            (b"\xff" * 8, b"\x7f" * 8, bytes(8), b"\xf0\x7f", b"\x02")
        )
        content[n : n + len(nasty)] = nasty[: len(content) - n]
    return sealed(front + head + bytes(content))


MUTATIONS = (other_bytes, other_text, other_values, other_values, other_table)
MUTATIONS += (other_front, other_arrays)

_watching: list[Counter[str]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event.startswith(FORBIDDEN):
        _watching[-1][event] += 1
        raise RuntimeError(f"{event} while a file is read")


def outcomes(
    n: int, *, predicts: bool, measures: bool, seed: int = 0
) -> tuple[Counter[str], float, int]:
    """Read so many mutants; return what became of them, the most seconds, and bytes.

    The hook that looks for forbidden events stays in the process for good.
    """
    sys.addaudithook(_watch)
    chance, became = random.Random(seed), Counter[str]()
    sources = [(type(model), file_of(model)) for model in small_models()]
    most_seconds, most_bytes = 0.0, 0
    for cls, data in sources:
        model_of(data, cls, {}).predict(X)  # what is imported late is imported now
    if measures:
        tracemalloc.start()
    for number in range(n):
        cls, data = sources[number % len(sources)]
        mutant = chance.choice(MUTATIONS)(data, chance)
        if measures:
            tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        _watching.append(Counter())
        start, model = time.thread_time(), None
        try:
            with warnings.catch_warnings(action="error"):
                model = model_of(mutant, cls, {})
            what = "models"
        except ValueError:
            what = "refused"
        except Exception as error:
            what = f"{type(error).__name__}: {error}"[:100]
        seconds = time.thread_time() - start
        forbidden = _watching.pop()
        if measures:
            most_bytes = max(most_bytes, tracemalloc.get_traced_memory()[1] - before)
        most_seconds = max(most_seconds, seconds)
        became[what] += 1
        became["forbidden"] += bool(forbidden)
        became.update(f"forbidden: {event}" for event in forbidden)
        if model is not None and predicts:
            became[_prediction(model)] += 1
    tracemalloc.stop()
    return became, most_seconds, most_bytes


def _prediction(model: Model) -> str:
    """Return what comes of a prediction."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            model.predict(X)
    except ValueError:
        return "models, predictions refused"
    except Exception as error:
        return f"prediction: {type(error).__name__}: {error}"[:100]
    return "models that predict"


# Time


def seconds_of(call: Callable[[], object], repeats: int = 7) -> float:
    """Return the median of the seconds that a call takes."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return median(spent)


def times(directory: str) -> dict[str, float]:
    """Return the seconds to save and load 10 MB, and to write its bytes alone."""
    rows = _rng.normal(size=(64, 500)).astype(np.float32)
    model = MiniBatchRegressor(hidden_layer_sizes=(1000, 320), batch_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(max_iter=1).fit(rows, rows[:, 0])
    path = os.path.join(directory, "large.skgd")
    data = file_of(model)
    return {
        "megabytes": len(data) / 1e6,
        "save": seconds_of(lambda: model.save(path)),
        "the bytes of it, without the disk": seconds_of(lambda: file_of(model)),
        "write_atomically alone": seconds_of(lambda: write_atomically(path, data)),
        "load": seconds_of(lambda: MiniBatchRegressor.load(path)),
    }


# Searches that are killed

ROWS = _rng.normal(size=(2000, 8))
LABELS = (ROWS[:, 0] * ROWS[:, 1] > 0).astype(int)
NETWORK = MiniBatchClassifier(
    hidden_layer_sizes=(8,), max_iter=9, tol=None, random_state=0
)
HALVES = {"resource": "max_iter", "max_resources": 9, "random_state": 0}
GRID = {"lr": [0.001, 0.003, 0.01, 0.03], "alpha": [1e-4, 1e-2]}
DRAWN: dict[str, Any] = {"cv": 3, "random_state": 0}


def searches() -> dict[str, Any]:
    """Return searches of all kinds, by what they are."""
    scaled = Pipeline([("scale", StandardScaler()), ("model", NETWORK)])
    of_scaled = {f"model__{name}": values for name, values in GRID.items()}
    scores = {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy"}
    alone = NETWORK.__sklearn_clone__().set_params(max_time=1e9)
    stacked = NETWORK.__sklearn_clone__().set_params(engine="torch")
    return {
        "grid": skgd.VectorizedGridSearchCV(NETWORK, GRID, cv=3),
        "two threads": skgd.VectorizedGridSearchCV(NETWORK, GRID, cv=3, n_jobs=2),
        "stacks": skgd.VectorizedGridSearchCV(stacked, GRID, cv=3),
        "one at a time": skgd.VectorizedRandomizedSearchCV(
            alone, GRID, n_iter=4, **DRAWN
        ),
        "pipeline": skgd.VectorizedGridSearchCV(
            scaled, of_scaled, cv=3, return_train_score=True, **scores
        ),
        "halving": skgd.VectorizedHalvingGridSearchCV(NETWORK, GRID, cv=3, **HALVES),
        "halving by rows": skgd.VectorizedHalvingRandomSearchCV(
            NETWORK, GRID, min_resources=200, n_candidates=8, **DRAWN
        ),
    }


def told_by_child(act: Callable[[], Any], most_seconds: float) -> str:
    """Return the fingerprint of what an act of a forked child returns.

    It is "" if the child was killed, after so many seconds.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                told = act()
            os.write(writes, fingerprint_of(told).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with open(reads, "rb") as pipe:
        if not select.select([pipe], [], [], most_seconds)[0]:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return pipe.read().decode()


def found_by(search: Any, directory: str) -> list[Any]:
    """Search, and return all that was found but the times."""
    search.fit(ROWS, LABELS, checkpoint=directory)
    found = dict(search.cv_results_)
    for name in [name for name in found if name.endswith("_time")]:
        del found[name]
    return [found, search.loss_curves_, search.groups_, search.best_params_]


def killed_searches(n_kills: int, seed: int = 0) -> dict[str, tuple[int, int, int]]:
    """Kill each search at random times, and call it again.

    Return of each how often that was, how often it then found the same, and how often
    there were results to go on from.
    """
    chance, told = random.Random(seed), {}
    for name, search in searches().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(ROWS, LABELS)  # so that children need not import and compile
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter()
            whole = told_by_child(partial(found_by, search, directory), 600)
            seconds = time.perf_counter() - began
        killed = same = begun = 0
        while killed < n_kills:
            with tempfile.TemporaryDirectory() as directory:
                act = partial(found_by, search, directory)
                if told_by_child(act, chance.uniform(0, seconds)):
                    continue  # it was done sooner
                killed += 1
                begun += bool([n for n in os.listdir(directory) if n[0] != "."])
                same += told_by_child(act, 600) == whole != ""
        told[name] = killed, same, begun
    return told


class LogsAndDies:
    """A scorer that notes each call in a file, and kills its process at one of them."""

    def __init__(self, path: str, after: int) -> None:
        self.path, self.after = path, after

    def __call__(self, model: Model, rows: Any, labels: Any) -> float:
        line = f"{model.lr} {model.alpha} {fingerprint_of(rows)}\n"
        with open(self.path, "a") as log:
            log.write(line)
        with open(self.path) as log:
            if len(log.readlines()) == self.after:
                os.kill(os.getpid(), signal.SIGKILL)
        return float(model.score(rows, labels))


def killed_worker(directory: str, after: int = 20) -> tuple[int, int]:
    """Kill one of two loky workers at a score; the search goes on by itself.

    Return how many models there are, and how many were scored twice.
    """
    log = os.path.join(directory, "log")
    model = MiniBatchClassifier(
        hidden_layer_sizes=(32,), max_iter=200, tol=None, random_state=0
    )
    kept = os.path.join(directory, "kept")
    search = skgd.VectorizedGridSearchCV(
        model, GRID, cv=5, n_jobs=2, scoring=LogsAndDies(log, after)
    )
    with parallel_config("loky"):
        search.fit(ROWS, LABELS, checkpoint=kept)
    scored = Counter(Path(log).read_text().splitlines())
    return len(scored), sum(count > 1 for count in scored.values())


# Fits that are killed

TARGETS = ROWS @ _rng.normal(size=8) + 0.1 * _rng.normal(size=2000)
WIDE = scipy.sparse.random(600, 6000, density=0.005, format="csr", rng=0)
NARROW = scipy.sparse.random(600, 50, density=0.1, format="csr", rng=0)
WEIGHTS = _rng.uniform(0.5, 2, 2000)
BETWEEN = 0.01  # seconds, from one checkpoint to the next

Given = tuple[Any, ...]


def fits(directory: str) -> dict[str, tuple[Model, Given]]:
    """Return models and what they are fitted to, by what they are."""
    few: dict[str, Any] = {"max_iter": 20, "tol": None, "random_state": 0}
    network, dense = (8,), (ROWS, TARGETS)
    wide, narrow = (WIDE, WIDE[:, 0].toarray().ravel()), (NARROW, TARGETS[:600])
    settings: dict[str, tuple[dict[str, Any], Given]] = {
        "sgd": ({"optimizer": "sgd"}, dense),
        "momentum, by torch": (
            {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "engine": "torch"},
            dense,
        ),
        "adagrad, by torch": ({"optimizer": "adagrad", "engine": "torch"}, dense),
        "rmsprop": ({"optimizer": "rmsprop", "hidden_layer_sizes": network}, dense),
        "adam": ({}, dense),
        "adamw": ({"optimizer": "adamw", "hidden_layer_sizes": network}, dense),
        "cosine": ({"lr_schedule": "cosine"}, dense),
        "one_cycle, by torch": ({"lr_schedule": "one_cycle", "engine": "torch"}, dense),
        "adaptive": ({"tol": 0.1, "n_iter_no_change": 1, "max_iter": 40}, dense),
        "step, warm-up": ({"lr_schedule": "step", "warmup_steps": 50}, dense),
        "early stopping": (
            {"early_stopping": True, "tol": 1e-3, "hidden_layer_sizes": network},
            dense,
        ),
        "early stopping by the loss": (
            {"early_stopping": True, "scoring": "loss", "average": True},
            dense,
        ),
        "averaging, by torch": ({"average": 200, "engine": "torch"}, dense),
        "dropout": ({"dropout": 0.3, "hidden_layer_sizes": (16, 8)}, dense),
        "filled batches": ({"last_batch": "fill", "batch_size": 33}, dense),
        "whole batches": ({"batch_size": None, "max_iter": 200}, dense),
        "losses of batches": ({"record_batch_loss": True}, dense),
        "weights": ({"hidden_layer_sizes": network}, (*dense, WEIGHTS)),
        "float32": ({"hidden_layer_sizes": network}, (ROWS.astype("f4"), TARGETS)),
        "sparse, an L1 penalty": (
            {"optimizer": "sgd", "l1_ratio": 0.5, "alpha": 0.01},
            narrow,
        ),
        "wide": ({"max_iter": 100}, wide),
        "wide, by descent": (
            {"optimizer": "sgd", "l1_ratio": 0.5, "alpha": 0.01, "max_iter": 100},
            wide,
        ),
        "files": ({}, (parquet(directory),)),
        "files, dropout": (
            {"hidden_layer_sizes": network, "dropout": 0.2, "early_stopping": True},
            (parquet(directory),),
        ),
    }
    return {
        name: (MiniBatchRegressor(**{**few, **parameters}), given)
        for name, (parameters, given) in settings.items()
    }


def parquet(directory: str) -> skgd.Blocks:
    """Return the rows as row groups of a file, four of which make a window."""
    import pyarrow
    from pyarrow.parquet import write_table

    path = os.path.join(directory, "rows.parquet")
    columns = {f"x{n}": column for n, column in enumerate(ROWS.T)}
    write_table(pyarrow.table({**columns, "y": TARGETS}), path, row_group_size=100)
    return skgd.Blocks.from_parquet(path, y="y", chunk_rows=400)


def become_of(model: Model, given: Given, path: str, between: float) -> dict[str, Any]:
    """Fit, and return all that the model has become but the time."""
    model.fit(*given, checkpoint=path, checkpoint_seconds=between)
    told = dict(vars(model))
    del told["time_curve_"]
    return told


def killed_fits(n_kills: int, seed: int = 0) -> dict[str, tuple[int, int, int]]:
    """Kill each fit at random times, go on, kill that too, and call it again.

    Return of each how often that was, how often it then came to the same, and how often
    it had been kept within an epoch.
    """
    chance, told = random.Random(seed), {}
    compiled._AT_ONCE_S = 1e-4  # the loops' fits are short: they are heard more often
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "run.skgd")
        for name, (model, given) in fits(directory).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                alone = vars(model.__sklearn_clone__().fit(*given))
            whole = fingerprint_of({n: alone[n] for n in alone if n != "time_curve_"})
            began = time.perf_counter()
            act = partial(become_of, model, given, fresh(path), BETWEEN)
            assert told_by_child(act, 600) == whole
            seconds = time.perf_counter() - began
            killed = same = within = 0
            while killed < n_kills:
                after = chance.uniform(0, seconds)
                act = partial(become_of, model, given, fresh(path), BETWEEN)
                if told_by_child(act, after):
                    continue  # it was done sooner
                killed += 1
                if os.path.exists(path):
                    kept = decode(Path(path).read_bytes())["progress"]
                    within += kept["point"] is not None
                again = partial(become_of, model, given, path, BETWEEN)
                told_by_child(again, chance.uniform(0, seconds))  # killed once more
                again = partial(become_of, model, given, path, 60)
                same += told_by_child(again, 600) == whole
            told[name] = killed, same, within
    return told


def fresh(path: str) -> str:
    """Return a path that names no file any more."""
    Path(path).unlink(missing_ok=True)
    return path


def costs(directory: str) -> dict[str, float]:
    """Return what a checkpoint takes, in seconds, of a model of 10 MB and X of a GB.

    That is to write it, to tell X from others, and to ask after steps whether it is
    time, in a million of them.
    """
    path, rows = os.path.join(directory, "run.skgd"), ROWS[:64]
    model = MiniBatchRegressor(hidden_layer_sizes=(1200, 320), batch_size=64)
    model.set_params(max_iter=20, tol=None, engine="torch")
    short = MiniBatchRegressor(max_iter=10, tol=None, batch_size=1, engine="torch")
    every: dict[str, Any] = {"checkpoint_seconds": 0}

    def fit_large(**given: Any) -> None:
        model.fit(rows, rows[:, 0], **given)

    def fit_short(**given: Any) -> None:
        short.fit(ROWS[:, :4], TARGETS, **given)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = seconds_of(lambda: fit_large(checkpoint=fresh(path), **every))
        megabytes = os.path.getsize(path) / 1e6
        written -= seconds_of(fit_large)
        asked = seconds_of(lambda: fit_short(checkpoint=fresh(path)))
        asked -= seconds_of(fit_short)
    large = np.random.default_rng(0).normal(size=(10**6, 125))
    return {
        "megabytes": megabytes,
        "write": written / 21,  # at the start, and after each of 20 steps
        "tell": seconds_of(lambda: fingerprint(large), 3),
        "ask": asked * 1e6 / 20_000,
    }


class Cost(NamedTuple):
    """The CPU seconds of a fit without and with a checkpoint, and what is its own."""

    alone: float
    kept: float
    own: float  # of what a checkpoint does within the fit, measured there
    n_written: int


def cost_of_a_fit(directory: str, between: float, repeats: int = 3) -> Cost:
    """Return what a checkpoint costs a fit, written every so many seconds.

    A fit is some epochs of a model of 10 MB on 100,000 rows of 54 features; medians of
    so many with a checkpoint and without, in turn. All seconds are of CPU time, those
    between two checkpoints too, so that a busy machine counts for little.
    """
    rows = np.random.default_rng(0).normal(size=(100_000, 54))
    path = os.path.join(directory, "run.skgd")
    model = MiniBatchRegressor(hidden_layer_sizes=(1200, 320), batch_size=256)
    model.set_params(max_iter=4, tol=None, random_state=0)
    keeper, parts = checkpoints.FileKeeper, Counter[str]()
    places = ((base, "for_data"), (keeper, "is_due"), (keeper, "_write"))
    places += ((checkpoints, "monotonic"),)
    before = [getattr(where, name) for where, name in places]

    def timed(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def timed_act(*args: Any) -> Any:
            start = time.process_time()
            told = act(*args)
            parts["seconds"] += time.process_time() - start
            parts[name] += 1
            return told

        return timed_act

    def cost(few: int, **given: Any) -> float:
        start = time.process_time()
        model.fit(rows[:few], rows[:few, 0], **given)
        return time.process_time() - start

    alone, kept, own = [], [], []
    try:
        for (where, name), act in zip(places, before, strict=True):
            setattr(where, name, timed(name, act))
        checkpoints.monotonic = time.process_time
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cost(1000, checkpoint=fresh(path))
            for _ in range(repeats):
                alone.append(cost(len(rows)))
                parts.clear()
                every = {"checkpoint_seconds": between}
                kept.append(cost(len(rows), checkpoint=fresh(path), **every))
                own.append((parts["seconds"], parts["_write"]))
    finally:
        for (where, name), act in zip(places, before, strict=True):
            setattr(where, name, act)
    seconds, n_written = sorted(own)[repeats // 2]
    return Cost(median(alone), median(kept), seconds, n_written)


def main() -> None:
    """Take the measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument(
        "--kills", type=int, default=200, help="of searches, and of fits"
    )
    args = parser.parse_args()
    data = smallest_file()
    with tempfile.TemporaryDirectory() as directory:
        for ignored in (True, False):
            n, told, killed, whole, left = cut_short(
                directory, ignored=ignored, n_bytes=len(data)
            )
            print(
                f"SIGXFSZ {'ignored' if ignored else 'kills'}: of {n} writes {told} "
                f"told of it, {killed} were killed; {whole} left the old file whole, "
                f"{left} a temporary"
            )
    for cls, one in [(MiniBatchRegressor, data)]:
        n, refused = n_refused(one, lambda damaged, cls=cls: model_of(damaged, cls, {}))
        print(f"{len(one)} bytes: of {n} flips and truncations {refused} were refused")
    start = time.perf_counter()
    became, seconds, _ = outcomes(args.mutants, predicts=True, measures=False)
    print(f"{args.mutants} mutants in {time.perf_counter() - start:.0f} s:")
    for what, count in became.most_common():
        print(f"  {count:7d} {what}")
    print(f"  at most {1e3 * seconds:.1f} ms each (goal {1e3 * MOST_SECONDS:.0f})")
    n = args.mutants // 10
    _, _, most = outcomes(n, predicts=False, measures=True, seed=1)
    print(f"  at most {most / 1e6:.2f} MB each, of {n} (goal {MOST_BYTES / 1e6:.0f})")
    with tempfile.TemporaryDirectory() as directory:
        for what, value in times(directory).items():
            print(f"{what}: {value:.3f}")
    kinds = killed_searches(-(-args.kills // len(searches())))
    for what, (n, same, begun) in kinds.items():
        print(
            f"{what}: {same} of {n} killed searches went on to the same, {begun} from"
        )
    with tempfile.TemporaryDirectory() as directory:
        n, twice = killed_worker(directory)
        print(f"a killed worker of two: {twice} of {n} models done twice")
    kinds = killed_fits(-(-args.kills // N_KINDS))
    for what, (n, same, within) in kinds.items():
        print(
            f"{what}: {same} of {n} killed fits went on to the same, {within} from "
            "within an epoch"
        )
    of_all = [sum(column) for column in zip(*kinds.values(), strict=True)]
    print("in all {1} of {0} killed fits, {2} from within an epoch".format(*of_all))
    with tempfile.TemporaryDirectory() as directory:
        cost = costs(directory)
    share = (cost["tell"] + 11 * cost["write"]) / 600
    print(
        f"a checkpoint of {cost['megabytes']:.1f} MB: {cost['write']:.3f} s to write, "
        f"{cost['tell']:.2f} s to tell a GB, {cost['ask']:.2f} s for a million steps; "
        f"of 600 s of a fit {100 * share:.2f}% (goal {MOST_SHARE})"
    )
    with tempfile.TemporaryDirectory() as directory:
        run = cost_of_a_fit(directory, between=3)
    print(
        f"fits of {run.alone:.1f} s of CPU time without a checkpoint, {run.kept:.1f} "
        f"with one that is written {run.n_written} times, which takes {run.own:.2f} of "
        f"it; as often in 600 s it is {run.own / 6:.2f}%"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory at the peak: {peak:.0f} MB; signals as before: {_signals()}")


def _signals() -> bool:
    return signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN


if __name__ == "__main__":
    main()
