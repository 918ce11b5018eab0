"""A published team: what is in its folder, that every loader reads the same from it, and that changes are noticed."""

import base64
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from trainer_fixtures import Rig, make_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from marft.cli import app
from marft.errors import ModelError, RecipeError, RunFolderError
from marft.eval.arena import evaluate
from marft.files import write_text
from marft.publish.folder import publish
from marft.publish.load import published_recipe
from marft.recipe import dump_recipe
from marft.scoring import Scorer

LISTED = {
    "README.md",
    "team.json",
    "recipe.yaml",
    "curves.svg",
    *(f"{agent}/{name}" for agent in ("alice", "bob") for name in ("adapter_config.json", "adapter_model.safetensors")),
}


@pytest.fixture(scope="module")
def rig():
    return Rig("name=pair", shaken=0.3)


@pytest.fixture(scope="module")
def run(rig, tmp_path_factory):
    """A run folder as training leaves it, with files that are nobody's business."""
    folder = tmp_path_factory.mktemp("runs") / "pair"
    write_text(folder / "recipe.yaml", dump_recipe(rig.recipe))
    lines = [{"update": n, "game/cooperation": 0.1 * n, "trained_tokens": 100 * n} for n in range(4)]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_text(folder / "episodes" / "secret.parquet", "what was said")
    for agent in rig.learners:
        rig.bank.save(agent, folder / "adapters" / agent)
    return folder


@pytest.fixture(scope="module")
def results(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval")
    evaluate({"pair": run}, out, against="AllD", episodes=4, resamples=40)
    return out / "results.json"


@pytest.fixture(scope="module")
def published(run, results, tmp_path_factory):
    return publish(
        run, tmp_path_factory.mktemp("out") / "team", results=results, with_base=True, licence="apache-2.0", merged=True
    )


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_in_the_folder_but_what_is_listed(published):
    own = {name for name in files(published) if not name.startswith(("base/", "merged/"))}
    assert own == LISTED
    weights = {name for name in files(published) if name.endswith((".bin", ".pt", ".pth", ".pickle", ".pkl"))}
    assert not weights
    text = "".join((published / name).read_text() for name in files(published) if not name.endswith(".safetensors"))
    assert str(published.parent.parent) not in text
    assert "what was said" not in text


def test_plain_peft_and_the_merged_model_say_what_the_trainer_says(rig, published):
    tokenizer = AutoTokenizer.from_pretrained(published / "base")
    ids = tokenizer("Round 1 of 3. <answer>A</answer> and so on", add_special_tokens=False).input_ids
    for agent in ("alice", "bob"):
        (ours,) = Scorer(rig.bank, 1000).score(agent, [ids[:1]], [ids[1:]])
        base = AutoModelForCausalLM.from_pretrained(published / "base")
        models = [PeftModel.from_pretrained(base, str(published / agent))]
        models.append(AutoModelForCausalLM.from_pretrained(published / "merged" / agent))
        for model in models:
            logp = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
            theirs = logp[:-1].gather(-1, torch.tensor(ids[1:])[:, None]).squeeze(-1)
            assert (theirs.detach().numpy() - ours) == pytest.approx(0, abs=1e-4)


def test_a_published_team_plays_as_the_run_does(run, published, tmp_path):
    found = [
        evaluate({"pair": folder}, tmp_path / str(number), against="TFT", episodes=4, resamples=40)["pairs"]
        for number, folder in enumerate((run, published))
    ]
    assert found[0] == found[1]


def test_the_card_is_of_the_hubs_form_and_tells_what_was_measured(published, results):
    card = ModelCard.load(published / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "peft"
    assert "marft" in card.data.tags
    pairs = json.loads(results.read_text())["pairs"]
    returned = next(pair for pair in pairs if pair["opponent"] == "AllD")["metrics"]["return"]
    assert f"{returned['mean']:.3g} ({returned['low']:.3g} to {returned['high']:.3g})" in card.text
    assert "PeftModel.from_pretrained(base" in card.text
    assert "(curves.svg)" in card.text
    assert (published / "curves.svg").read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_a_changed_adapter_or_template_is_noticed(run, tmp_path):
    folder = publish(run, tmp_path / "team", with_base=True)
    published_recipe(folder)
    config = folder / "base" / "tokenizer_config.json"
    template = next((folder / "base").glob("chat_template*"), config)
    kept = template.read_text()
    template.write_text(kept.replace("<|end|>", "<|END|>"))
    with pytest.raises(ModelError, match="chat template of .*base is not the one"):
        published_recipe(folder)
    template.write_text(kept)
    weights = folder / "bob" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="adapter of bob is not the one"):
        published_recipe(folder)


def test_what_cannot_be_published_says_why(run, tmp_path):
    write_text(tmp_path / "full" / "thesis.tex", "years of work")
    with pytest.raises(RunFolderError, match="choose another --to"):
        publish(run, tmp_path / "full")
    assert files(tmp_path / "full") == {"thesis.tex"}
    tiny = tmp_path / "tiny"
    shutil.copytree(run, tiny)
    write_text(tiny / "recipe.yaml", dump_recipe(make_recipe("model=tiny")))
    with pytest.raises(RecipeError, match="keep --with-base"):
        publish(tiny, tmp_path / "bare", with_base=False)
    empty = tmp_path / "run"
    write_text(empty / "recipe.yaml", (run / "recipe.yaml").read_text())
    with pytest.raises(RunFolderError, match="holds no adapter of alice"):
        publish(empty, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP API as an upload asks for; what is committed is kept."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        name = f"http://{self.headers['Host']}/somebody/team"
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self.answer({"url": name})
        elif self.path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]
            self.answer({"files": modes})
        elif self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.kept[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.answer({"commitUrl": f"{name}/commit/abc", "commitOid": "abc", "pullRequestUrl": None})
        else:
            self.answer({})

    def do_GET(self):
        self.answer({"id": "somebody/team", "sha": "abc", "siblings": [], "private": True})

    def answer(self, data):
        text = json.dumps(data).encode()
        self.send_response(200 if self.server.open else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.kept, server.created, server.open = [], {}, None, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_upload_sends_the_folder_and_nothing_else(published, hub):
    from marft.publish.hub import upload

    where = upload(published, "somebody/team", endpoint=f"http://127.0.0.1:{hub.server_port}")
    assert where.endswith("/commit/abc")
    assert hub.created.get("private", hub.created.get("visibility")) in (True, "private")
    assert hub.kept == {name: (published / name).read_bytes() for name in files(published)}


def test_a_hub_that_refuses_is_named(published, hub):
    from marft.errors import MarftError
    from marft.publish.hub import upload

    hub.open = False
    with pytest.raises(MarftError, match="somebody/team at http://127.0.0.1"):
        upload(published, "somebody/team", endpoint=f"http://127.0.0.1:{hub.server_port}")


def test_nothing_is_sent_unless_asked_for_twice(run, hub, tmp_path, monkeypatch):
    monkeypatch.setattr("marft.publish.hub.HfApi", lambda endpoint=None: pytest.fail("the hub was asked"))
    done = CliRunner().invoke(app, ["publish", str(run), "--to", str(tmp_path / "t"), "--repo", "somebody/team"])
    assert done.exit_code == 0, done.output
    assert "nothing was sent" in done.output
    assert not hub.asked


def test_load_plays_an_episode(published):
    done = CliRunner().invoke(app, ["load", str(published)], env={"COLUMNS": "150"})
    assert done.exit_code == 0, done.output
    assert "step 0" in done.output
    assert "return  alice" in done.output
