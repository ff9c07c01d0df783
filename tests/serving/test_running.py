"""A real server: it ends politely, and slow or rude clients do not hold it up."""

import json
import re
import signal
import socket
import time

import numpy as np
import pytest

from tests.photographs import save_small_network, write_photographs
from tests.scripts import assert_fails, call_command
from tests.serving import processes, toy_maps
from tests.serving.processes import TIMEOUT_S, form, post, read_all, running

CAMERA = {"fx": 30, "fy": 30, "cx": 15.5, "cy": 11.5}
PATH = "/maps/a/localize"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return processes.folder_of_maps(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(folder):
    with running("-m", "tests.serving.toy_server", folder) as started:
        yield started


def query(x=4.5):
    return post(PATH, form(toy_maps.picture(x), **CAMERA))


def answered(server, request):
    with server.connect() as connection:
        connection.sendall(request)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def assert_serves(server):
    status, body = answered(server, query(2.0))
    assert status == 200 and body["world_from_cam"][0][3] == pytest.approx(2.0)


def held_queries(server, folder, places):
    """Connections that wait for answers, the first of which is in the making."""
    (folder / "begun").unlink(missing_ok=True)
    (folder / "held").touch()
    connections = []
    for x in places:
        connections.append(server.connect())
        connections[-1].sendall(query(x))
        end = time.monotonic() + TIMEOUT_S
        while not (folder / "begun").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
    return connections


def wait_for(server, text):
    """Until /metrics says so."""
    end = time.monotonic() + TIMEOUT_S
    while text not in server.get("/metrics").decode():
        assert time.monotonic() < end, text
        time.sleep(0.02)


def test_a_query_is_answered(server):
    assert_serves(server)
    deadline = time.monotonic() + 30  # the line may come after the answer
    while not any("request" in line and "gave 200" in line for line in server.log):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def test_a_client_that_hangs_up_is_not_answered(server, folder):
    try:
        waiting = held_queries(server, folder, [4.5] * 4)
        wait_for(server, "jaxreloc_waiting 3.0")
        for connection in waiting:
            connection.close()
        needle = 'route="/maps/{name}/localize",status="499"} 4.0'
        wait_for(server, needle)
    finally:
        (folder / "held").unlink()
    assert_serves(server)
    assert server.process.poll() is None and not any("Traceback" in x for x in server.log)


def test_half_a_request_is_nothing(server):
    for request in (query()[:-200], query()[:100], b"GET / HT", b"\x16\x03\x01\x02\x00", b""):
        with server.connect() as connection:
            connection.sendall(request)
        assert_serves(server)


def test_a_byte_a_second_takes_too_long(server):
    request = query()
    start = time.monotonic()
    with server.connect() as connection:
        connection.sendall(request[:-200])
        connection.settimeout(0.25)
        for i in range(40):
            try:
                connection.sendall(request[-200 + i : -199 + i])
                if connection.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
        connection.settimeout(TIMEOUT_S)
        answer = read_all(connection)
    assert b" 408 " in answer and b"to arrive" in answer
    assert time.monotonic() - start >= 2.0
    assert_serves(server)


def test_headers_that_do_not_come_close_the_connection(server):
    whole = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    for begin in (b"", whole[:30], whole + b"GET"):
        with server.connect() as connection:
            connection.sendall(begin)
            read_all(connection)  # returns, since the server closes
    assert_serves(server)


def test_too_large_a_body_is_told_so(server):
    for length in (300_000, 5_000_000):
        body = form(toy_maps.picture(1.0)) + bytes(length)
        with server.connect() as connection:
            try:
                connection.sendall(post(PATH, body))
            except (BrokenPipeError, ConnectionResetError):
                assert length > 800_000  # more than is read to be polite
            answer = read_all(connection)
        assert length > 800_000 or b" 413 " in answer
        assert_serves(server)


def test_a_thousand_fields_are_refused(server):
    fields = {f"field{i}": i for i in range(1100)}
    status, body = answered(server, post(PATH, form(toy_maps.picture(1.0), **fields)))
    assert status == 400 and "error" in body
    assert_serves(server)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_requests_end(tmp_path, number, status):
    folder = processes.folder_of_maps(tmp_path)
    with running("-m", "tests.serving.toy_server", folder) as server:
        assert_serves(server)
        waiting = held_queries(server, folder, [1.0, 2.0, 3.0])
        wait_for(server, "jaxreloc_waiting 2.0")
        server.process.send_signal(number)
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:  # nobody new is let in
            try:
                server.connect().close()
            except ConnectionRefusedError:
                break
            time.sleep(0.02)
        assert server.process.poll() is None
        (folder / "held").unlink()
        for i, connection in enumerate(waiting):
            with connection:
                head, _, body = read_all(connection).partition(b"\r\n\r\n")
            assert b" 200 " in head
            assert json.loads(body)["world_from_cam"][0][3] == pytest.approx(1.0 + i)
        assert server.process.wait(TIMEOUT_S) == status
    assert "Traceback" not in "".join(server.log)


@pytest.mark.slow
def test_the_command_serves_a_map_on_disk(tmp_path):
    write_photographs(tmp_path / "photographs", np.random.default_rng(0), n=6)
    save_small_network(tmp_path / "workdir")
    built = call_command(
        *("map", "build", f"--images={tmp_path}/photographs", f"--out={tmp_path}/maps/office"),
        f"--workdir={tmp_path}/workdir",
    )
    assert built.returncode == 0, built.stderr
    arguments = ("-m", "jaxreloc", "serve", f"--maps={tmp_path}/maps", "--port=0")
    with running(*arguments) as server:
        (described,) = json.loads(server.get("/maps"))
        assert described["name"] == "office"
        assert json.loads(server.get("/maps/office"))["images"] == 6
        server.process.terminate()
        assert server.process.wait(TIMEOUT_S) == 0
    lines = "".join(server.log)
    assert re.search(r"map office is open: 6 images\n", lines) and lines.endswith("ended\n")


def test_a_mistake_of_the_command_is_one_line(tmp_path):
    (tmp_path / "token").write_text("\n")
    processes.folder_of_maps(tmp_path)
    maps = f"--maps={tmp_path}/maps"
    for arguments, words in [
        ([f"--maps={tmp_path}"], ["no map in it", "map build"]),
        ([f"--maps={tmp_path}/absent"], ["no map in it"]),
        ([maps, "--port=99999"], ["--port"]),
        ([maps, "--max_megabytes=0"], ["--max_megabytes"]),
        ([maps, "--memory_gb=nan"], ["--memory_gb"]),
        ([maps, f"--write_token_file={tmp_path}/token"], ["token", "one line"]),
        ([maps, f"--write_token_file={tmp_path}/absent"], ["absent"]),
        ([maps, "--host=256.0.0.1", "--port=0"], ["256.0.0.1", "--host"]),
    ]:
        assert_fails(call_command("serve", *arguments), *words)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_fails(call_command("serve", maps, f"--port={port}"), str(port), "--port")
