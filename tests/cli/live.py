#!/usr/bin/python3
"""The live page, /metrics, /api and /events of a server, and what hostile requests get: live.py CUTWIRE [browser]."""
import base64
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

from cli_run import CUTWIRE, Folder, Process, run, skip_without_fashion

SMALL = ["--model", "mlp", "--train-limit", "128", "--test-limit", "64", "--threads", "1"]
NAME = r"[a-z_][a-z0-9_]*"


def get(port, path="/", method="GET", host="127.0.0.1", **headers):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    c.request(method, path, headers={"Host": host, **headers})
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    return r.status, dict(r.getheaders()), text


def raw(port, request, wait=20):
    """What comes back for these bytes, until the connection closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as s:
        s.sendall(request)
        out = b""
        try:
            while more := s.recv(4096):
                out += more
        except (TimeoutError, ConnectionError):
            pass
        return out


def check_metrics(text):
    """The rules that promtool checks: types and help before samples, once each, in one block; counters end in _total,
    and nothing else does; units are base units; names and labels are well formed; no sample twice."""
    assert text.endswith("\n")
    kinds, helped, seen, block, samples = {}, set(), set(), None, {}
    for line in text.splitlines():
        if m := re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line):
            assert m[1] not in helped, line
            helped.add(m[1])
            block = m[1]
        elif m := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|summary)", line):
            assert m[1] == block and m[1] not in kinds, line
            kinds[m[1]] = m[2]
        else:
            label = rf'{NAME}="(?:[^"\\\n]|\\[\\"n])*"'
            m = re.fullmatch(rf"({NAME})(\{{{label}(?:,{label})*\}})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-]?\d+)?)", line)
            assert m, line
            base = re.sub(r"_(sum|count)$", "", m[1]) if kinds.get(block) == "summary" else m[1]
            assert base == block and base.startswith("cutwire_") and (m[1], m[2]) not in seen, line
            seen.add((m[1], m[2]))
            samples[m[1] + (m[2] or "")] = float(m[3])
    assert set(kinds) == helped
    for name, kind in kinds.items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"(milli|micro|kilo|_ms|_mb|percent|minutes)", name), name
    return samples


def start(*args):
    p = Process(*args, "--http", "127.0.0.1:*")
    return p, int(p.wait_for(r"the page is at http://127.0.0.1:(\d+)/").group(1))


def until(seconds, ask):
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end, ask
        time.sleep(0.1)
    return found


def follow(port):
    """A connection to /events, and its first event."""
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    f = s.makefile("rb")
    assert b"200" in f.readline()
    while not (line := f.readline()).startswith(b"data: "):
        assert line
    return s, f, json.loads(line[6:])


def hostile(port):
    """Nothing of this changes, stops or slows a server, nor shows it to a page elsewhere."""
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/metrics/", "/api.json", "/x" * 400):
        status, _, text = get(port, path)
        assert status == 404 and "root:" not in text, (path, status)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        assert get(port, "/", method)[0] == 405, method
    assert get(port, "/", host="evil.example")[0] == 403 and get(port, "/", host="localhost.evil.example:1")[0] == 403
    assert get(port, "/", host="[::1]:80")[0] == 200 and get(port, "/", host="LOCALHOST")[0] == 200
    assert raw(port, b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n").split()[1:2] in ([b"414"], [b"413"], [b"431"], [])
    assert b" 200 " not in raw(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 100000 + b"\r\n\r\n")
    assert b" 200 " not in raw(port, os.urandom(3000) + b"\r\n\r\n", 2)
    assert b" 200 " not in raw(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 2)
    assert b" 405 " in raw(port, b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n" + b"z" * 1000, 2)
    held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(200)]
    for s in held[::2]:
        try:
            s.sendall(b"GET / HTTP/1.1\r\nHo")
        except ConnectionError:
            pass
    for s in held:
        s.close()
    assert until(20, lambda: get(port, "/api")[0]) == 200


def training():
    server, port = start("server", "--listen", "tcp://127.0.0.1:*", "--epochs", "2", "--clients", "2", "--out", "a", *SMALL)
    endpoint = server.wait_for(r"listening on (tcp://[0-9.:]+)").group(1)
    status, headers, page = get(port)
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    assert not re.search(r"(src|href)=\"?(https?:)?//", page), "the page asks elsewhere"
    assert get(port, "/api", "HEAD")[2] == ""
    waiting, events, first = follow(port)
    assert first["phase"] == "waiting" and first["runs"][0]["config"]["model"] == "mlp"
    hostile(port)
    check_metrics(get(port, "/metrics")[2])
    client = ["client", "--connect", endpoint, "--threads", "1", "--quiet"]
    others = [Process(*client), Process(*client)]
    texts, last = [], None
    for line in events:
        if line.startswith(b"data: "):
            last = json.loads(line[6:])
            try:
                texts.append(get(port, "/metrics")[2])
            except OSError:
                pass  # it has just ended
    waiting.close()
    for p in (*others, server):
        p.finish()
    assert last["phase"] == "finished" and len(last["runs"][0]["epochs"]) == 2, last
    assert [(c["joined"], c["lost"], c["flagged"]) for c in last["live"]["clients"]] == [(1, 0, 0)] * 2, last["live"]["clients"]
    assert last["live"]["clients"][0]["steps"] > 0
    times = last["live"]["step_time"]
    assert 0 < times["client_seconds"] <= times["seconds"] - times["server_seconds"] + 1e-6, times
    assert last["live"]["uplink"]["socket_bytes"] > 0 and last["live"]["step_time"]["server_seconds"] > 0
    told = [json.loads(line) for line in open("a/metrics.jsonl", encoding="utf-8")]
    assert [e["test_loss"] for e in told] == [e["test_loss"] for e in last["runs"][0]["epochs"]] or \
        max(abs(e["test_loss"] - f["test_loss"]) for e, f in zip(told, last["runs"][0]["epochs"])) < 1e-4
    numbers = [check_metrics(t) for t in texts]
    assert {m for n in numbers for m in n if "step_part" in m} == \
        {f'cutwire_step_part_seconds_total{{part="{p}"}}' for p in ("server", "client", "link")}
    assert numbers and numbers[-1]['cutwire_client_steps_total{client="2"}'] >= 0
    for a, b in zip(numbers, numbers[1:]):
        for name in a:
            assert "_total" not in name or b.get(name, a[name]) >= a[name], ("a counter went back", name)


def tokens():
    with open("t", "w", encoding="utf-8") as f:
        f.write("0123456789abcdef0123\n")
    with open("short", "w", encoding="utf-8") as f:
        f.write("abc\n")
    assert "no token" in run("server", "--http", "127.0.0.1:*", "--http-token", "short", "--out", "x", code=1)
    assert "goes with --http" in run("server", "--http-token", "t", "--out", "x", code=2)
    assert "seen from other machines" in run("server", "--http", "0.0.0.0:8080", "--out", "x", code=2)
    for wrong in ("8080", "here:8080", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x", "[::1:80", "1" * 200 + ":1"):
        assert "is no address" in run("serve", "--run", "a", "--http", wrong, code=2 if wrong else 1), wrong
    server, port = start("serve", "--run", "a", "--listen", "tcp://127.0.0.1:*", "--http-token", "t", "--threads", "1")
    password = base64.b64encode(b"me:0123456789abcdef0123").decode()
    for shown, status in ((None, 401), ("Bearer 0123456789abcdef0124", 401), ("Bearer ", 401), ("Basic !!!", 401),
                          ("Bearer 0123456789abcdef01230123456789abcdef0123", 401), ("Basic bWU6", 401),
                          ("Bearer 0123456789abcdef0123", 200), (f"Basic {password}", 200)):
        got = get(port, "/metrics", host="evil.example", **({"Authorization": shown} if shown else {}))
        assert got[0] == status, (shown, got[0])
    endpoint = server.wait_for(r"answering on (tcp://[0-9.]+:[0-9]+)").group(1)
    run("infer", "--connect", endpoint, "--run", "a", "--test-limit", "4", "--quiet", "--threads", "1")
    asked = {"Authorization": f"Basic {password}"}
    samples = until(20, lambda: (lambda m: m if m.get("cutwire_request_samples_total") == 4 else None)(check_metrics(get(port, "/metrics", **asked)[2])))
    assert samples['cutwire_request_latency_seconds{quantile="0.5"}'] > 0, samples
    time.sleep(0.6)  # a rendering serves for half a second
    assert json.loads(get(port, "/api", **asked)[2])["live"]["answers"]["samples"] == 4
    taken = run("serve", "--run", "a", "--listen", "tcp://127.0.0.1:*", "--http", f"127.0.0.1:{port}", code=1)
    assert "take another port" in taken
    server.interrupt()
    server.finish()


def report():
    os.mkdir("a<")
    os.rename("a", "a</script>b")
    run("report", "--html", "r.html", "a</script>b")
    page = open("r.html", encoding="utf-8").read()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert data["runs"][0]["name"] == "a</script>b" and len(data["runs"][0]["epochs"]) == 2
    assert "cannot" in (e := run("report", "--html", "/absent/r.html", "a</script>b", code=1)) or "absent" in e


def dom(url):
    done = subprocess.run(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--timeout=4000",
                           f"--user-data-dir={os.getcwd()}/profile", "--dump-dom", url], capture_output=True, text=True, timeout=120)
    return done.stdout


def browser():
    """Chromium draws both pages, with words for those who do not see them."""
    run("train", "--split", "--epochs", "2", "--out", "a", "--quiet", *SMALL)
    run("report", "--html", "r.html", "a")
    page = dom(f"file://{os.getcwd()}/r.html")
    assert "finished run" in page and re.search(r'aria-label="Accuracy\. training: [\d.]+% at epoch 2; test: ', page), page[-3000:]
    assert page.count("<section") == 4 and "NaN" not in page and "undefined" not in page.split("<script")[0]
    server, port = start("server", "--listen", "tcp://127.0.0.1:*", "--clients", "2", "--out", "b", *SMALL)
    page = dom(f"http://127.0.0.1:{port}/").split('id="data"')[0]
    assert "waiting for clients" in page and page.count("<tr>") >= 3 and "nobody" in page, page
    assert "NaN" not in page and "Infinity" not in page, page
    server.kill()


with Folder():
    skip_without_fashion()
    if "browser" in sys.argv[2:]:
        if not shutil.which("chromium"):
            print("SKIP: chromium is not installed")
            sys.exit(77)
        browser()
    elif "was made without" in subprocess.run([CUTWIRE, "train", "--http-token", "x", "--out", "x"], capture_output=True, text=True).stderr:
        print("SKIP: this build has no page (libmicrohttpd-dev)")
        sys.exit(77)
    else:
        training()
        tokens()
        report()
