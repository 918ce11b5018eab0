"""Other libraries' words, kept apart from ours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any


def quiet_libraries() -> None:
    """Keep other libraries' progress bars and advice out of the way of ours."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging as transformers_logging

    # PEFT asks newer transformers by an older name; nothing a user could mend
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    hush: list[Callable[[], Any]] = [
        transformers_logging.disable_progress_bar,
        transformers_logging.set_verbosity_error,
    ]
    for call in hush:
        call()
