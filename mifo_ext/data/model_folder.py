"""`mifo prepare model`: a model folder whose own files carry the changed RoPE and context.

verl's `override_config.rope_theta` sets an attribute nobody reads under transformers 5, and vLLM
is never told. Both read config.json, so that is where the change goes: under the old keys
(`rope_theta`, `rope_scaling`) and the new one (`rope_parameters`), which then agree.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mifo_ext.data.folders import whole_folder
from mifo_ext.data.prompts import ChatFormat, chat_format
from mifo_ext.data.sources import sha256

RECORD = "prepare.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
TEXT_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md")
SCALED_BY_ORIGINAL = ("llama3", "yarn", "longrope")
"""RoPE types that stretch from `original_max_position_embeddings` to the context."""
Json = dict[str, Any]


@dataclass(frozen=True)
class ModelPlan:
    """What `mifo prepare model` is asked to do.

    Attributes:
        source: a folder or a hub id.
        out: folder to write; must not hold anything but an earlier result.
        revision: commit, tag or branch on the hub.
        rope_theta: new base of the rotary embedding; None keeps it.
        max_position: new context length in tokens; None keeps it.
        chat_template: name of a chat format; None keeps the template.
        weights: whether weight files are linked or copied.
        convert_pickles: read pickled weights (tensors only) and write them as safetensors.
    """

    source: str
    out: Path
    revision: str | None = None
    rope_theta: float | None = None
    max_position: int | None = None
    chat_template: str | None = None
    weights: Literal["link", "copy"] = "link"
    convert_pickles: bool = False


class Change(NamedTuple):
    """One value of the model that is another one now."""

    name: str
    before: object
    after: object


def prepare_model(plan: ModelPlan) -> list[Change]:
    """Write a model folder.

    Args:
        plan: what to do.

    Returns:
        What is different from the source.

    Raises:
        FileNotFoundError: when the source is no model folder.
        FileExistsError: when `out` holds something else.
        ValueError: when the model cannot be changed so, or its weights are pickled.
    """
    _check_values(plan)
    template = chat_format(plan.chat_template) if plan.chat_template else None
    folder, commit = _source_folder(plan)
    config = _read_json(folder / "config.json")
    changes = change_context(config, rope_theta=plan.rope_theta, max_position=plan.max_position)
    if plan.out.resolve() == folder.resolve():
        raise ValueError("`--out` must be another folder than the source, but is the same.")
    pickled = not any(folder.glob("*.safetensors"))
    if pickled and not plan.convert_pickles:
        raise ValueError(
            f"The weights of {plan.source} must be safetensors, but are not. "
            "--convert-pickles reads pickled ones (tensors only) and writes safetensors."
        )

    if template:
        _check_vocabulary(folder, template)

    with whole_folder(plan.out, mark=RECORD) as unfinished:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            _place(file, unfinished / file.name, link=plan.weights == "link")
        if pickled:
            _convert(folder, unfinished)
        _write_json(unfinished / "config.json", config)
        changes += _change_tokenizer(unfinished, template, max_position=plan.max_position)
        _write_record(unfinished, plan, changes, commit)
    return changes


def change_context(
    config: Json, *, rope_theta: float | None, max_position: int | None
) -> list[Change]:
    """Change RoPE base and context of a config.json, in place, under every key that is read.

    Args:
        config: the parsed file of a text model.
        rope_theta: new base; None keeps it.
        max_position: new context in tokens; None keeps it.

    Raises:
        ValueError: for a config without RoPE, with one RoPE per kind of layer, or of several parts.
    """
    if "max_position_embeddings" not in config or "text_config" in config:
        raise ValueError(
            "`config.json` must be of one text model with `max_position_embeddings`, but is not."
        )
    if "auto_map" in config:
        raise ValueError(
            "The model must need no code of its own, but `config.json` has `auto_map`."
        )
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in rope.values()):
        raise ValueError(
            "`rope_parameters` must hold one rotary embedding for all layers, "
            f"but holds {', '.join(sorted(rope))}."
        )
    before_theta = (config.get("rope_parameters") or {}).get("rope_theta", config.get("rope_theta"))
    before_theta = rope.get("rope_theta", before_theta)
    before_position = config["max_position_embeddings"]
    theta = before_theta if rope_theta is None else rope_theta
    position = before_position if max_position is None else max_position
    if theta is None:
        raise ValueError("`rope_theta` must stand in config.json or be given, but does neither.")

    parameters = {**rope, "rope_theta": theta}
    parameters["rope_type"] = parameters.pop("type", None) or parameters.get("rope_type", "default")
    if parameters["rope_type"] in SCALED_BY_ORIGINAL:
        parameters.setdefault("original_max_position_embeddings", before_position)
    config.update(rope_theta=theta, rope_parameters=parameters, max_position_embeddings=position)
    if config.get("rope_scaling"):
        config["rope_scaling"] = dict(parameters)
    return [
        Change(name, before, after)
        for name, before, after in (
            ("rope_theta", before_theta, theta),
            ("max_position_embeddings", before_position, position),
        )
        if before != after
    ]


def _check_values(plan: ModelPlan) -> None:
    if plan.rope_theta is not None and plan.rope_theta <= 1:
        raise ValueError(f"`--rope-theta` must be above 1, but is {plan.rope_theta}.")
    if plan.max_position is not None and plan.max_position < 1:
        raise ValueError(f"`--max-position` must be at least 1, but is {plan.max_position}.")


def _source_folder(plan: ModelPlan) -> tuple[Path, str | None]:
    folder = Path(plan.source).expanduser()
    commit = None
    if not folder.is_dir() and plan.source.count("/") == 1:
        from huggingface_hub import snapshot_download

        weights = ["*.safetensors"] + ["*.bin"] * plan.convert_pickles
        folder = Path(
            snapshot_download(
                plan.source, revision=plan.revision, allow_patterns=[*TEXT_FILES, *weights]
            )
        )
        commit = folder.name
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{plan.source} must be a model folder with config.json or a hub id, but is neither."
        )
    return folder, commit


def _place(file: Path, target: Path, *, link: bool) -> None:
    if file.suffix in (*PICKLES, ".py") or file.name.endswith(".bin.index.json"):
        return
    if link and file.suffix == ".safetensors":
        target.symlink_to(file.resolve())
    else:
        shutil.copyfile(file, target)


def _convert(folder: Path, out: Path) -> None:
    from transformers import AutoModelForCausalLM

    # transformers reads pickles with `weights_only=True`: tensors, no code.
    AutoModelForCausalLM.from_pretrained(folder, dtype="auto").save_pretrained(out)


def _change_tokenizer(
    out: Path, template: ChatFormat | None, *, max_position: int | None
) -> list[Change]:
    file = out / "tokenizer_config.json"
    if not file.is_file():
        return []
    settings = _read_json(file)
    changes = []
    limit = settings.get("model_max_length")
    # vLLM takes the smaller of this and the context.
    if max_position is not None and limit is not None and limit < max_position:
        changes.append(Change("model_max_length", limit, max_position))
        settings["model_max_length"] = max_position
    if template:
        changes.append(Change("chat_template", "the source's", "ends the prompt with <think>"))
        settings["chat_template"] = template.chat_template
        (out / "chat_template.jinja").write_text(template.chat_template, encoding="utf-8")
    _write_json(file, settings)
    return changes


def _check_vocabulary(folder: Path, template: ChatFormat) -> None:
    from transformers import AutoTokenizer

    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    missing = [token for token in template.needs_tokens if token not in vocabulary]
    if missing:
        raise ValueError(
            f"The vocabulary must have {', '.join(missing)} for this chat template, but has not. "
            "Use a model of the Qwen family, or leave --chat-template out."
        )


def _write_record(folder: Path, plan: ModelPlan, changes: list[Change], commit: str | None) -> None:
    texts = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jinja"))
    record = {
        "source": plan.source,
        "revision": plan.revision,
        "commit": commit,
        "changes": [change._asdict() for change in changes],
        "sha256": {path.name: sha256(path) for path in texts},
        "weights": {path.name: path.stat().st_size for path in folder.glob("*.safetensors")},
    }
    _write_json(folder / RECORD, record)


def _read_json(path: Path) -> Json:
    try:
        content: Json = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` must be JSON, but is not ({error}).") from error
    return content


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
