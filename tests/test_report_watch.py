"""`marft watch`: served to this machine alone, true to the files as they are now, and stopped by Ctrl-C."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
from report_fixtures import line, make_run, play

from marft.errors import RunFolderError
from marft.report.watch import HOST, Live, make_server
from marft.store import write_parquet


@contextmanager
def served(live):
    server = make_server(live, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "one")


def go_on(run, update):
    """The run makes another update."""
    write_parquet([play(n, update) for n in range(3)], run / "episodes" / f"update-{update:06d}.parquet")
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line(update)) + "\n")


def test_the_page_is_of_the_files_as_they_are_now(run):
    with served(Live({"one": run})) as address:
        first, state = httpx.get(address).text, httpx.get(f"{address}/state").text
        assert "4 of 40" in first
        assert f'data-state="{state}"' in first
        assert httpx.get(address).text == first
        go_on(run, 4)
        assert httpx.get(f"{address}/state").text != state
        second = httpx.get(address).text
        assert "5 of 40" in second
        assert "All 15 episodes" in second


def test_a_line_that_is_being_written_changes_nothing(run):
    with served(Live({"one": run})) as address:
        before = httpx.get(address).text
        with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write('{"update": 4, "game/coop')
        after = httpx.get(address).text
        assert re.sub('data-state="[^"]*"', "", after) == re.sub('data-state="[^"]*"', "", before)


def test_pieces_are_served_beside_the_page_and_older_ones_for_a_while(run):
    live = Live({"one": run})
    old = list(live._pieces)
    with served(live) as address:
        assert 'id="piece-' not in httpx.get(address).text
        assert httpx.get(f"{address}/pieces/{old[0]}").status_code == 200
        go_on(run, 4)
        httpx.get(address)
        assert httpx.get(f"{address}/pieces/{old[0]}").status_code == 200
        assert httpx.get(f"{address}/pieces/none").status_code == 404
        assert httpx.get(f"{address}/../../etc/passwd").status_code == 404


def test_other_hosts_and_other_methods_are_refused(run):
    with served(Live({"one": run})) as address:
        port = address.rpartition(":")[2]
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil.example:{port}", ""):
            answer = httpx.get(address, headers={"Host": host})
            assert answer.status_code == 403, host
            assert "cooperation" not in answer.text.lower()
        assert httpx.get(address, headers={"Host": f"localhost:{port}"}).status_code == 200
        assert httpx.post(address).status_code == 501


def test_every_answer_carries_the_content_policy_of_the_page(run):
    with served(Live({"one": run})) as address:
        answers = [httpx.get(f"{address}{path}") for path in ("", "/state", "/none")]
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "connect-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in answer.headers
        in_page = re.search(r'Content-Security-Policy" content="(.*?)"', answers[0].text)[1]
        assert answers[0].headers["content-security-policy"].startswith(in_page.replace("&#39;", "'"))


def test_it_listens_on_the_loopback_interface_alone(run):
    assert make_server(Live({"one": run}), 0).server_address[0] == "127.0.0.1"


def test_a_busy_port_is_named(run):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunFolderError, match=f"port {port} is in use; choose another --port"):
            make_server(Live({"one": run}), port)


def test_what_breaks_while_it_is_watched_is_told_and_passes(run):
    live = Live({"one": run})
    whole = (run / "metrics.jsonl").read_text(encoding="utf-8")
    with served(live) as address:
        (run / "metrics.jsonl").write_text("{]\n", encoding="utf-8")
        answer = httpx.get(address)
        assert answer.status_code == 500
        assert "metrics.jsonl is damaged" in answer.text
        (run / "metrics.jsonl").write_text(whole, encoding="utf-8")
        assert httpx.get(address).status_code == 200


def test_a_folder_that_is_no_run_is_refused_at_once(tmp_path):
    with pytest.raises(RunFolderError, match="is no run folder"):
        Live({"one": tmp_path})


def test_ctrl_c_ends_it_well(run):
    command = [sys.executable, "-m", "marft", "watch", str(run), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "reading the runs\n"
        told = process.stderr.readline()
        assert re.search(r"watching on http://127\.0\.0\.1:\d+/ until Ctrl-C", told)
        assert httpx.get(re.search(r"http\S+", told)[0]).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "no longer watching" in process.stderr.read()
