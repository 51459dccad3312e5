"""Collect the files of a checkpoint that belong on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from prefzoo.errors import UserError
from prefzoo.experiment.cards import HERE, HUB_ID
from prefzoo.runtime.run_folders import has_checkpoint, why_removed

CONFIG, CARD = "adapter_config.json", "README.md"
KEPT = re.compile(
    r"[^/]+\.safetensors|[^/]+\.safetensors\.index\.json|config\.json|generation_config\.json|adapter_config\.json|"
    r"tokenizer[^/]*|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|spiece\.model|"
    r"chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja|README\.md"
)  # no moments, no steps, no answers, no judge's words


def files(variant: Path, to: str, base_model: str | None = None) -> dict[str, bytes | Path]:
    """Return the files of a variant's repository: weights or adapter, tokenizer, chat template, card.

    Args:
        variant: the variant's folder in a run.
        to: `user/name`, which the card's example then loads.
        base_model: the hub id of the model that an adapter sits on, in place of a folder of this machine.

    Returns:
        Path in the repository -> content, or the file that has it.

    Raises:
        UserError: there is no checkpoint or card, or an adapter sits on a folder that others do not have.
    """
    if not HUB_ID.fullmatch(to):
        raise UserError(f"--to: {to!r}: not a repository; write it like user/name")
    if base_model is not None and not HUB_ID.fullmatch(base_model):
        raise UserError(f"--base-model: {base_model!r}: not a hub id; write it like user/name")
    checkpoint = variant / "checkpoint"
    if why_removed(variant):
        raise UserError(f"{variant}: {why_removed(variant)}")
    if not has_checkpoint(variant):
        raise UserError(f"{variant}: no checkpoint in it; name a RUN/VARIANT that prefzoo run wrote, or run it again")
    if not (checkpoint / CARD).is_file():
        raise UserError(f"{checkpoint}: no {CARD} in it; run the same prefzoo run again to write the card")
    inside = {p.relative_to(checkpoint).as_posix(): p for p in sorted(checkpoint.rglob("*")) if p.is_file()}
    chosen: dict[str, bytes | Path] = {name: p for name, p in inside.items() if KEPT.fullmatch(name)}
    text = (checkpoint / CARD).read_text(encoding="utf-8").replace(HERE, to)
    if CONFIG in chosen:
        chosen[CONFIG] = _adapter(checkpoint / CONFIG, base_model)
    if base_model is not None:
        text = _with_base(text, base_model)
    return chosen | {CARD: text.encode()}


def _adapter(path: Path, base_model: str | None) -> bytes:
    """Return the adapter's settings, with a base that others can load."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    base = base_model or str(settings.get("base_model_name_or_path"))
    if not HUB_ID.fullmatch(base) or Path(base).exists():
        raise UserError(
            f"{path}: the adapter's base is {base}, which only this machine has; name its hub id with --base-model "
            "user/name"
        )
    settings["base_model_name_or_path"] = base
    return (json.dumps(settings, indent=2) + "\n").encode()


def _with_base(text: str, base_model: str) -> str:
    from huggingface_hub import ModelCard

    card = ModelCard(text)
    card.data["base_model"] = base_model
    return str(card)


def size(content: bytes | Path) -> int:
    """Return the size in bytes."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


def upload(contents: Mapping[str, bytes | Path], to: str, *, private: bool) -> str:
    """Create the repository if it is missing, and commit all files to it at once.

    Args:
        contents: path in the repository -> content, see `files`.
        to: `user/name`.
        private: make a new repository a private one.

    Returns:
        The repository's address.

    Raises:
        UserError: no token, no network, or the hub refuses; the token is in no message.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    token = get_token()
    if not token:
        raise UserError("push: no token for the hub; run `hf auth login`, or set HF_TOKEN, with one that may write")
    api = HfApi(token=token)
    operations = [
        CommitOperationAdd(name, str(content) if isinstance(content, Path) else content)
        for name, content in contents.items()
    ]
    try:
        address = api.create_repo(to, private=private, exist_ok=True)
        api.create_commit(to, operations, commit_message="Upload a checkpoint and its card, by prefzoo")
    except HfHubHTTPError as e:
        status = e.response.status_code
        cure = "the token may not write there; use one that may" if status in (401, 403) else "try again later"
        raise UserError(f"push: the hub refuses {to} (HTTP {status}); {cure}") from None
    except Exception as e:  # a missing network has many names, and the library's message may quote the request
        reason = (str(e).splitlines() or [""])[0].replace(token, "***")
        raise UserError(
            f"push: the hub cannot be reached ({type(e).__name__}: {reason}); check the network and HF_HUB_OFFLINE; "
            "--dry-run needs neither"
        ) from None
    return str(address)
