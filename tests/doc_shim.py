"""What the pages' commands go through when tests run them: `python tests/doc_shim.py marft train …`, made small.

Trainings make two short updates on a base that was hardly warmed up, evaluations play two instances. What runs until
somebody ends it is ended here: `watch` once it serves, `serve` when its parent goes. Exit codes are passed on.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

MODEL = ["model.tiny.warmup_steps=60", "model.tiny.warmup_episodes=128", "model.tiny.warmup_batch=32"]
ROLLOUT = ["train.updates=2", "rollout.groups=2", "rollout.group_size=4", "trackers=[]"]
ADDED = {
    "train": [*MODEL, *ROLLOUT],
    "sft": [*MODEL, "--epochs", "1"],
    "dpo": [*MODEL, "--epochs", "1", "--margin", "0"],
    "serve": MODEL,
    "eval": ["--episodes", "2", "--resamples", "20"],
}
ALONE = {"--list", "--rescore", "--dry-run"}
DEADLINE = 300.0
ANSWERS = b"<answer>1</answer>\n" * 200


def small(words: list[str]) -> list[str]:
    """The command with what makes it small."""
    if ALONE & set(words):
        return words
    if words[0] == "watch":
        return [word for word in words if word != "--open"] + ["--port", "0"]
    return words + ADDED.get(words[0], [])


def until_said(command: list[str], pattern: str) -> int:
    """Start the command, wait for what it says, end it by Ctrl-C; its exit code, 1 where it never said so."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        said = ""
        for line in process.stderr:
            said += line
            if re.search(pattern, line):
                process.send_signal(signal.SIGINT)
                return process.wait(timeout=DEADLINE)
        print(said, file=sys.stderr)
        return process.wait(timeout=DEADLINE) or 1


def in_background(command: list[str], file: Path) -> int:
    """Start servers whose addresses appear in the file; their end is the test's, which knows the id in servers.pid."""
    with open("servers.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    Path("servers.pid").write_text(str(process.pid))
    until = time.monotonic() + DEADLINE
    while not (file.is_file() and file.read_text()):
        if process.poll() is not None or time.monotonic() > until:
            print(Path("servers.log").read_text()[-3000:], file=sys.stderr)
            return 1
        time.sleep(0.5)
    return 0


def main(program: str, *given: str) -> int:
    if program == "accelerate":
        place = given.index("marft") + 1
        command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *given[:place]]
        return subprocess.run([*command, *small(list(given[place:]))], check=False).returncode
    words = small(list(given))
    command = [sys.executable, "-m", "marft", *words]
    if words[0] == "watch":
        return until_said(command, "watching on http://127.0.0.1:")
    if words[0] == "serve":
        return in_background(command, Path(words[words.index("--urls-file") + 1]))
    if words[0] == "play" and os.path.samefile("/dev/stdin", "/dev/null"):
        return subprocess.run(command, input=ANSWERS, check=False).returncode
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
