"""A published folder to a hub, through huggingface_hub. Nothing is sent that was not asked for twice."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from marft.errors import MarftError


def files_of(folder: Path) -> list[tuple[str, int]]:
    """(path in the folder, bytes) of all that would be sent."""
    return sorted(
        (path.relative_to(folder).as_posix(), path.stat().st_size) for path in folder.rglob("*") if path.is_file()
    )


def upload(folder: Path, repo: str, *, private: bool = True, endpoint: str | None = None) -> str:
    """Create the repository where it is missing and send the folder in one commit; returns the commit's address.

    The token is huggingface_hub's own: HF_TOKEN, or what `hf auth login` stored. endpoint: in the place of HF_ENDPOINT.
    """
    hub = HfApi(endpoint=endpoint)
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        sent = hub.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"marft publish {folder.name}")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise MarftError(f"publish: {repo} at {hub.endpoint} did not take the folder: {error}") from None
    return sent.commit_url
