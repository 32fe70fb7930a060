"""Where a benchmark's rows come from: a local file, the embedded world, or the hub."""

from __future__ import annotations

import csv
from pathlib import Path

from mifo_ext.data.columns import Row
from mifo_ext.data.sources import Source, read_source, rows_of, sha256
from mifo_ext.eval.catalogue import Benchmark
from mifo_ext.hydra_plugin import world_folder


def read_benchmark(benchmark: Benchmark, *, path: Path | None) -> Source:
    """Read a benchmark's rows, all of them and as they are.

    Args:
        benchmark: which one.
        path: a local .parquet, .jsonl, .json or .csv file, or a folder of one split's files;
            None for the world's folder or the hub.

    Raises:
        FileNotFoundError: when there is no such file, no world, or no way to the hub.
        ValueError: for a file that cannot be read or is empty.
    """
    if path is not None:
        return _read_local(benchmark, path.expanduser())
    if benchmark.hub is None:
        built = Path(world_folder()) / benchmark.file
        if not built.is_file():
            raise FileNotFoundError(
                f"`{benchmark.name}` must lie in {built}, but does not. "
                "Build it with `mifo world build`, or set MIFO_WORLD to its folder."
            )
        return _read_file(built)
    return _read_hub(benchmark, benchmark.hub)


def _read_local(benchmark: Benchmark, path: Path) -> Source:
    # read_source would take a path that does not exist for the id of a hub data set.
    if not path.exists():
        raise FileNotFoundError(
            f"`--data {benchmark.name}=` must name a file or a folder, but {path} does not exist."
        )
    return _read_file(path) if path.is_file() else read_source(str(path), split=benchmark.split)


def _read_file(path: Path) -> Source:
    if path.suffix != ".csv":
        return read_source(str(path))
    rows = _csv_rows(path)
    if not rows:
        raise ValueError(f"{path} must hold at least one row, but is empty.")
    provenance = {"file": path.name, "sha256": sha256(path), "rows": len(rows)}
    return Source(name=path.stem, rows=rows, provenance=provenance)


def _csv_rows(path: Path) -> list[Row]:
    """The rows of a table with a header; GPQA is published as one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"`{path.name}` must be CSV in UTF-8, but is not ({error}).") from error


def _read_hub(benchmark: Benchmark, hub: str) -> Source:
    """Download one file, not the data set: others of its files are other benchmarks."""
    path = _download(benchmark, hub)
    rows = _csv_rows(path) if path.suffix == ".csv" else list(rows_of(path))
    if not rows:
        raise ValueError(f"{hub}, {benchmark.file} must hold at least one row, but is empty.")
    provenance: dict[str, object] = {
        "dataset": hub,
        "revision": benchmark.revision,
        # The hub's cache names a snapshot's folder after its commit.
        "commit": path.parents[benchmark.file.count("/")].name,
        "file": benchmark.file,
        "config": benchmark.config,
        "split": benchmark.split,
        "sha256": sha256(path),
        "rows": len(rows),
    }
    return Source(name=benchmark.name, rows=rows, provenance=provenance)


def _download(benchmark: Benchmark, hub: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    named = f"{hub} at {benchmark.revision or 'its newest commit'}"
    local = f"pass a local copy with `--data {benchmark.name}=FILE`"
    try:
        found = hf_hub_download(
            hub, benchmark.file, repo_type="dataset", revision=benchmark.revision
        )
        return Path(found)
    except GatedRepoError as error:
        reason, advice = "its owners have not let you in", "Accept its terms on the hub and log in"
        cause: Exception = error
    except RepositoryNotFoundError as error:
        reason = "the hub knows no such data set, or it is not open to you"
        advice, cause = "Accept its terms on the hub if it has any, and log in", error
    except RevisionNotFoundError as error:
        reason, advice, cause = "the hub has no such commit", "Correct benchmarks.yaml", error
    except LocalEntryNotFoundError as error:
        reason = "the hub cannot be reached and nothing is in the cache"
        advice, cause = "Connect once to fill the cache", error
    except EntryNotFoundError as error:
        reason, cause = f"it has no {benchmark.file}", error
        advice = "Correct benchmarks.yaml"
    except HfHubHTTPError as error:
        reason, advice, cause = f"the hub answers: {error}", "Try again", error
    raise FileNotFoundError(
        f"`{benchmark.name}` must be read from {named}, but {reason}. {advice}, or {local}."
    ) from cause
