"""Read the configurations of AlpacaEval's annotators by name or path, and check each field."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.judges.alpaca_code import known_names, on_scale, parser_fault

FIELD = "evals.judge.annotator"
CONFIGS, OWN = "configs.yaml", ("configs.yaml", "config.yaml")  # alpaca-eval uses both names
OPENAI = "openai_completions"
REGEX, PARSER_KEYS = "regex_parser", "completion_parser_kwargs"
DECODERS = tuple(
    f"{name}_completions"
    for name in (
        *("openai", "anthropic", "bedrock_anthropic", "google", "cohere", "replicate", "jina_chat"),
        *("huggingface_api", "huggingface_local", "vllm_local"),
    )
)
CHATML = "<|im_start|>"
PLACEHOLDERS = ("{output_1}", "{output_2}")
# Options of alpaca-eval's other decoders -> the same option of an OpenAI-compatible server. None: the option sets how
# the model is run, which the server decides.
ELSEWHERE = {
    "max_new_tokens": "max_tokens", "max_tokens_to_sample": "max_tokens", "client_function_name": None,
    "model_kwargs": None, "is_chatml_prompt": None, "batch_size": None,
}  # fmt: skip
CLIENT = ("client_config_path", "openai_api_keys", "openai_organization_ids", "openai_api_base")
CLIENT_CURE = "leave it out; the recipe names the server (url) and the key's variable (key)"


@dataclass(frozen=True)
class Annotator:
    """A configuration of an alpaca-eval annotator.

    It holds one or more prompts for a judging model; alpaca-eval picks one of them at random for each instruction.

    Attributes:
        name: the name of the configuration.
        configs: the arguments of each `SinglePairwiseAnnotator`, by name. `prompt_template` holds the prompt's text
            instead of its file's name.
    """

    name: str
    configs: Mapping[str, dict[str, Any]]

    @property
    def hash(self) -> str:
        """Hash of the prompts and of the settings that parse the replies."""
        return hashlib.sha256(yaml.safe_dump(dict(self.configs)).encode()).hexdigest()[:12]


def read_annotator(name: str, folder: Path, model: str | None) -> Annotator:
    """Read the configuration of an annotator, and adapt it to an OpenAI-compatible server.

    Args:
        name: the name of an annotator in alpaca-eval, or the path of a YAML file or of a folder with `configs.yaml`.
        folder: the folder that a relative path starts from.
        model: the model to ask; None for the model in the configuration.

    Returns:
        The annotator. It calls every model through `openai_completions`, whichever decoder its configuration names.

    Raises:
        UserError: no annotator has this name, or one of its fields is invalid.
    """
    file = _file(name, folder)
    try:
        configs = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        reason = " ".join(str(e).split())
        raise UserError(f"{FIELD}: {file} is not YAML ({reason}); write it as alpaca-eval's {CONFIGS} are") from None
    if not isinstance(configs, dict) or not configs or not all(isinstance(c, dict) for c in configs.values()):
        raise UserError(f"{FIELD}: {file} must be a mapping, `name: {{prompt_template: ..., completions_kwargs: ...}}`")
    known = file.parent.name if file.name in OWN else file.stem
    return Annotator(
        known, {str(key): _config(c, f"{FIELD}: {file}: {key}", file, model) for key, c in configs.items()}
    )


def own_annotators() -> dict[str, Path]:
    """Return the file of each configuration in the installed alpaca-eval, by name.

    Raises:
        UserError: alpaca-eval is not installed.
    """
    spec = find_spec("alpaca_eval")
    if spec is None or spec.origin is None:
        raise UserError("evals.judge: kind alpaca_eval needs the package alpaca-eval; pip install alpaca-eval==0.6.6")
    folder = Path(spec.origin).parent / "evaluators_configs"
    files = (path / name for path in sorted(folder.iterdir()) for name in OWN)
    return {file.parent.name: file for file in files if file.is_file()}


def _file(name: str, folder: Path) -> Path:
    own = own_annotators()
    if name in own:
        return own[name]
    path = (folder / Path(name).expanduser()).resolve()
    if path.is_dir() and (path / CONFIGS).is_file():
        return path / CONFIGS
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or "/" in name:
        raise UserError(f"{FIELD}: {name}: no such file: {path}; the path is relative to the recipe")
    near = did_you_mean(name, list(own)) or f"; name a YAML file, or one of {', '.join(own)}"
    raise UserError(f"{FIELD}: alpaca-eval has no annotator {name!r}{near}")


def _config(config: dict[str, Any], place: str, file: Path, model: str | None) -> dict[str, Any]:
    names = known_names()
    known = names["fields"]
    for key in config:
        if key not in known:
            raise UserError(
                f"{place}: no such field: {key}{did_you_mean(key, known) or '; there are ' + ', '.join(known)}"
            )
    decoder = config.get("fn_completions", OPENAI)
    _known(decoder, DECODERS, f"{place}: fn_completions")
    parser = config.get("fn_completion_parser", REGEX)
    _known(parser, names["parsers"], f"{place}: fn_completion_parser")
    for processor in _mapping(config, "processors_to_kwargs", place):
        _known(processor, names["processors"], f"{place}: processors_to_kwargs")
    options = _mapping(config, PARSER_KEYS, place)
    if config.get("random_seed_column", ["instruction"]) not in ("instruction", ["instruction"]):
        raise UserError(
            f"{place}: random_seed_column: must be [instruction], to give both orders one seed; leave it out"
        )
    batch = config.get("batch_size", 1)
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise UserError(f"{place}: batch_size: must be a whole number from 1 (is {batch!r})")
    template = _template(config.get("prompt_template"), place, file, batch)
    asked = _asked(_mapping(config, "completions_kwargs", place), decoder, place, template, model)
    _check_parser(parser, options, f"{place}: {PARSER_KEYS}", names["parsers"])
    return {**config, "prompt_template": template, "fn_completions": OPENAI, "completions_kwargs": asked}


def _check_parser(
    parser: str, options: dict[str, Any], place: str, parsers: Sequence[str], *, last: bool = True
) -> None:
    """Raise UserError for options with which a parser fails on every reply; alpaca-eval raises nothing itself."""
    if fault := parser_fault(parser, options):
        raise UserError(f"{place}: {fault}")
    for key, pattern in (options.get("outputs_to_match") or {}).items():
        if last and on_scale(key) is None:
            scale = "1 where the first answer is better, 2 where the second is, 0 where neither is"
            raise UserError(f"{place}: outputs_to_match: {key!r} is not a preference; write {scale}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one of alpaca-eval's annotators has the pattern `[[A]]`
                re.compile(pattern)
        except (re.error, TypeError) as e:
            raise UserError(f"{place}: outputs_to_match: {key}: {pattern!r} is not a pattern ({e}); fix it") from None
    steps, inside = options.get("parsers_to_kwargs") or {}, f"{place}: parsers_to_kwargs"
    for i, (step, own) in enumerate(steps.items(), 1):
        _known(step, parsers, inside)
        _check_parser(step, own, f"{inside}: {step}", parsers, last=last and i == len(steps))
    token, tokens = options.get("numerator_token"), options.get("denominator_tokens", [])
    if options.get("is_binarize") is False and token not in tokens:
        raise UserError(f"{place}: denominator_tokens: must hold the numerator_token {token!r} too; add it")


def _known(value: Any, known: Sequence[str], place: str) -> None:
    if value not in known:
        near = did_you_mean(str(value), list(known)) or f"; there are {', '.join(known)}"
        raise UserError(f"{place}: alpaca-eval has no {value!r}{near}")


def _mapping(config: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{place}: {key}: must be a mapping, `key: value` (is {value!r})")
    return value


def _template(value: Any, place: str, file: Path, batch: int) -> str:
    """Return the text of a prompt from its file, which must exist: alpaca-eval would use its name as the text."""
    if not isinstance(value, str) or not value:
        raise UserError(f"{place}: prompt_template: must name a text file (is {value!r})")
    text = value
    if "{output_1}" not in value:
        paths = [folder / value for folder in (file.parents[1], file.parent)]
        there = next((path for path in paths if path.is_file()), None)
        if there is None:
            raise UserError(
                f"{place}: prompt_template: no such file: {value}, in {paths[0].parent} or {paths[1].parent}"
            )
        text = there.read_text(encoding="utf-8")
    wrong = [name for name in PLACEHOLDERS if text.count(name) != batch]
    if wrong:
        times = "once" if batch == 1 else f"{batch} times, which is batch_size"
        raise UserError(f"{place}: prompt_template: {value} must hold {' and '.join(wrong)} {times}")
    return text


def _asked(options: dict[str, Any], decoder: str, place: str, template: str, model: str | None) -> dict[str, Any]:
    """Return the options for `openai_completions` that match those of any decoder."""
    for name in CLIENT:
        if name in options:
            raise UserError(f"{place}: completions_kwargs: {name}: {CLIENT_CURE}")
    if decoder == OPENAI:
        asked = dict(options)
    else:
        renamed = {ELSEWHERE.get(name, name): value for name, value in options.items()}
        asked = {"temperature": 0.0, **{str(name): value for name, value in renamed.items() if name is not None}}
    asked.pop("price_per_token", None)  # the recipe gives the prices
    asks = model or asked.get("model_name")
    if not isinstance(asks, str):
        raise UserError(f"{place}: completions_kwargs: model_name: is missing; add it, or name evals.judge.model")
    if model is not None or decoder != OPENAI:  # alpaca-eval would guess this from the model's name
        asked.setdefault("requires_chatml", template.lstrip().startswith(CHATML))
    return {**asked, "model_name": asks}
