#!/usr/bin/python3
"""cutwire data as a user runs it, with downloads from a server on 127.0.0.1: data_command.py CUTWIRE."""
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import zlib

CUTWIRE = os.path.abspath(sys.argv[1])
DEBIAN = "/usr/share/datasets/fashion-mnist"
WORK = tempfile.mkdtemp(prefix="cutwire-data-")
ENV = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "CUTWIRE_DATA"}
ENV["HOME"] = os.path.join(WORK, "home")


def run(*args, code=0, **env):
    done = subprocess.run([CUTWIRE, "data", *args], capture_output=True, text=True, timeout=120, env={**ENV, **env})
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    if code:
        assert done.stderr.startswith("cutwire: data"), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr if code else done.stdout


def last_object(text):
    return json.loads(text.strip().splitlines()[-1])


class Server(http.server.BaseHTTPRequestHandler):
    """Files with ranges; `cut` breaks each answer off after so many bytes, `ranges` may be switched off."""
    files, log, cut, ranges = {}, [], None, True

    def do_GET(self):
        data = self.files.get(self.path)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        self.log.append((self.path, int(wanted.group(1)) if wanted else 0))
        if data is None:
            self.send_error(404)
            return
        first = int(wanted.group(1)) if wanted and self.ranges else 0
        if first >= len(data) > 0 and first:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        end = len(data) if Server.cut is None else first + Server.cut
        try:
            self.wfile.write(data[first:end])
        except ConnectionError:
            pass  # a client that does not want the rest

    def log_message(self, *args):
        pass


def start_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/sets"


def test_list():
    out = run("list")
    for name in ("fashion-mnist", "cifar-10", "cifar-100", "imagenette", "sst-2", "ag-news", "adult", "csv"):
        assert re.search(rf"^{name} ", out, re.M), out
    sets = {s["name"]: s for s in last_object(run("list", "--json"))["sets"]}
    assert sets["cifar-10"]["folder"] is None and sets["cifar-10"]["fetchable"]
    assert not sets["csv"]["fetchable"] and "downloads" not in sets["csv"]
    test_sources(out, [s for s in sets.values() if s["fetchable"]])


def test_sources(listed, sets):
    """Addresses and checksums, alike in the object, in the text and in docs/reference/data.md."""
    data_md = open(os.path.join(os.path.dirname(__file__), "..", "..", "docs", "reference", "data.md")).read()
    assert len(sets) == 7, sets
    for s in sets:
        assert s["downloads"], s
        for d in s["downloads"]:
            assert re.match(r"https?://[^/]+/.+", d["url"]), d
            assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", d["checksum"]), d
        for edition in s["editions"]:
            assert edition["label"] and edition["checksums"], edition
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", sum) for sum in edition["checksums"].values()), edition
        url = s["downloads"][0]["url"]
        source = url if s["downloads"][0]["archive"] else url[:url.rindex("/") + 1]
        whose = "official" if s["official"] else "third party's copy"
        assert f" {whose}: {source}\n" in listed, (source, listed)
        row = re.search(rf"^\| {s['name']} \| .*$", data_md[data_md.index("## Fetching"):], re.M).group(0)
        assert f"| {source} | " in row and ("third party's copy" in row) == (not s["official"]), row
    assert [s["name"] for s in sets if not s["official"]] == ["sst-2", "ag-news"]


def test_usage():
    assert "choose list, fetch or verify" in run("get", code=2)
    assert "did you mean 'cifar-100'" in run("fetch", "cifar100", code=2)
    assert "choose one of fashion-mnist" in run("fetch", "words", code=2)
    assert "--sum is for sets that come as one archive" in run("fetch", "adult", "--sum", "md5:00", code=2)
    for wrong in ("md5:00", "sha256:" + 63 * "0", "sha256:" + 63 * "0" + "g", "md5:" + 33 * "0", "sha1:" + 40 * "0", "",
                  32 * "0", "md5:" + 100 * "0"):
        to = os.path.join(WORK, "never-made")
        text = run("fetch", "imagenette", "--to", to, "--url", "http://127.0.0.1:9", "--sum", wrong, code=2)
        assert "64 hexadecimal digits" in text and not os.path.exists(to), text
    for sub in ("list", "fetch", "verify"):
        assert "usage: cutwire data " + sub in run(sub, "--help")
    assert "fetch" in run("--help")


def test_missing():
    assert "cutwire data fetch cifar-10" in run("verify", "cifar-10", code=1)


def debian_files():
    return {f"/sets/{name}": open(os.path.join(DEBIAN, name), "rb").read() for name in sorted(os.listdir(DEBIAN))}


def fresh(name):
    path = os.path.join(WORK, name)
    shutil.rmtree(path, ignore_errors=True)
    return path


def reset(files, cut=None, ranges=True):
    Server.files, Server.log, Server.cut, Server.ranges = files, [], cut, ranges


def test_fetch_files(url):
    to, files = fresh("plain"), debian_files()
    reset(files)
    out = run("fetch", "fashion-mnist", "--to", to, "--url", url)
    assert "60000 + 10000 samples" in out and "(Debian)" in out, out
    assert len(Server.log) == 4 and sorted(os.listdir(to + "/fashion-mnist")) == sorted(p[6:] for p in files)
    out = last_object(run("fetch", "fashion-mnist", "--to", to, "--url", url, "--json"))
    assert len(Server.log) == 4, "what is there is not fetched again"
    assert out["ok"] and not out["fetched"] and out["edition"] == "Debian" and out["train_samples"] == 60000
    name = to + "/fashion-mnist/train-images-idx3-ubyte.gz"
    damaged = bytearray(open(name, "rb").read())
    damaged[len(damaged) // 2] ^= 1
    open(name, "wb").write(damaged)
    said = run("verify", "fashion-mnist:" + to + "/fashion-mnist", code=1)
    assert "train-images-idx3-ubyte.gz has no known checksum" in said, said
    run("fetch", "fashion-mnist", "--to", to, "--url", url)
    assert len(Server.log) == 5, "the damaged file alone is fetched again"
    out = run("fetch", "fashion-mnist", "--to", to, "--url", "http://127.0.0.1:9")  # nobody listens there
    assert "nothing is fetched" in out and "60000 + 10000 samples" in out, out
    out = last_object(run("fetch", "fashion-mnist", "--to", to, "--url", url, "--force", "--json"))
    assert len(Server.log) == 9 and out["ok"] and out["fetched"], (Server.log, out)
    os.unlink(to + "/fashion-mnist/t10k-labels-idx1-ubyte.gz")
    assert "is missing" in run("verify", "fashion-mnist:" + to + "/fashion-mnist", code=1)


def test_resume(url):
    files = debian_files()
    big = "train-images-idx3-ubyte.gz"
    size = len(files["/sets/" + big])
    to = fresh("broken")
    reset(files, cut=size // 3 + 1)  # every answer breaks off: the command goes on by itself
    run("fetch", "fashion-mnist", "--to", to, "--url", url)
    firsts = [first for path, first in Server.log if path.endswith(big)]
    assert firsts == [0, size // 3 + 1, 2 * (size // 3 + 1)], firsts
    to = fresh("continued")
    os.makedirs(to + "/fashion-mnist")
    open(f"{to}/fashion-mnist/{big}.part", "wb").write(files["/sets/" + big][:1000000])
    reset(files)
    run("fetch", "fashion-mnist", "--to", to, "--url", url)
    assert Server.log[0] == ("/sets/" + big, 1000000), Server.log
    to = fresh("whole")  # complete, but the program was killed before it was renamed
    os.makedirs(to + "/fashion-mnist")
    open(f"{to}/fashion-mnist/{big}.part", "wb").write(files["/sets/" + big])
    reset(files)
    run("fetch", "fashion-mnist", "--to", to, "--url", url)
    assert all(not path.endswith(big) for path, _ in Server.log)
    to = fresh("no-ranges")  # a server that cannot continue: from the beginning
    os.makedirs(to + "/fashion-mnist")
    open(f"{to}/fashion-mnist/{big}.part", "wb").write(b"x" * 1000)
    reset(files, ranges=False)
    run("fetch", "fashion-mnist", "--to", to, "--url", url)
    to = fresh("longer")  # a part that is longer than the file
    os.makedirs(to + "/fashion-mnist")
    open(f"{to}/fashion-mnist/{big}.part", "wb").write(b"x" * (size + 5))
    reset(files)
    run("fetch", "fashion-mnist", "--to", to, "--url", url)


def test_failures(url):
    files = debian_files()
    to = fresh("failures")
    reset({})
    said = run("fetch", "fashion-mnist", "--to", to, "--url", url, code=1)
    assert "404" in said and url in said, said
    reset({**files, "/sets/train-images-idx3-ubyte.gz": b"not what was asked for"})
    said = run("fetch", "fashion-mnist", "--to", to, "--url", url, code=1)
    assert "checksum" in said, said
    assert os.listdir(to + "/fashion-mnist") == [], "a wrong file is not kept"
    assert "--to" in run("fetch", "fashion-mnist", "--to", "/dev/null/x", "--url", url, code=1)
    said = run("fetch", "fashion-mnist", "--to", to, "--url", "ftp://127.0.0.1/x", code=1)
    assert "rotocol" in said, said


def png(color):
    """40x40 pixels of one colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(color) * 40 for _ in range(40))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_skipped():
    """What is passed over is counted and said, by verify and by training, split or not."""
    to = fresh("photos")
    for name in ("train/a/x/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png"):
        os.makedirs(os.path.dirname(f"{to}/{name}"), exist_ok=True)
        open(f"{to}/{name}", "wb").write(png((len(name), 80, 120)))
    assert "skipped" not in run("verify", "imagefolder@32:" + to)
    for name in ("train/a/x/0.webp", "train/a/._0.png", "val/b/Thumbs.db"):
        open(f"{to}/{name}", "wb").write(b"no photo")
    said = [f"{to}/train: 2 files skipped: 1 of formats that are not read (a/x/0.webp), 1 hidden (a/._0.png)",
            f"{to}/val: 1 file skipped: 1 no picture by its name (b/Thumbs.db)"]
    out = run("verify", "imagefolder@32:" + to)
    assert "2 + 2 samples" in out and all(note in out for note in said), out
    one = last_object(run("verify", "imagefolder@32:" + to, "--json"))["sets"][0]
    assert (one["train_skipped"], one["test_skipped"], one["notes"]) == (2, 1, said), one
    for how in (["--local"], ["--cut", "1", "--clients", "2"]):
        done = subprocess.run([CUTWIRE, "train", *how, "--model", "resnet20", "--data", "imagefolder@32:" + to, "--epochs",
                               "1", "--batch", "2", "--threads", "1", "--quiet", "--out", to + "/run" + how[0]],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and all(done.stderr.count(note) == 1 for note in said), (how, done.stderr)


def imagenette_archive():
    """A tiny imagenette2-320.tgz: 2 classes of real PNG files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for split, count in (("train", 3), ("val", 2)):
            for label in ("n01", "n02"):
                for i in range(count):
                    data = png((i * 50, 80, 120))
                    info = tarfile.TarInfo(f"imagenette2-320/{split}/{label}/{i}.png")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_fetch_archive(url):
    archive = imagenette_archive()
    reset({"/sets/imagenette2-320.tgz": archive})
    to = fresh("archive")
    assert "checksum" in run("fetch", "imagenette", "--to", to, "--url", url, code=1)
    for kind, case in (("sha256", str.lower), ("md5", str.lower), ("sha256", str.upper)):
        to = fresh("archive")
        out = run("fetch", "imagenette", "--to", to, "--url", url + "/", "--sum",
                  kind + ":" + case(hashlib.new(kind, archive).hexdigest()))
        assert "6 + 4 samples" in out, out
        assert os.listdir(to) == ["imagenette2-320"], "the archive is removed"
    found = last_object(run("list", "--json", CUTWIRE_DATA=to))["sets"]
    assert next(s for s in found if s["name"] == "imagenette")["folder"] == to + "/imagenette2-320"
    victim = to + "/imagenette2-320/val/n02/1.png"
    open(victim, "ab").truncate(60)
    said = run("verify", "imagenette", code=1, CUTWIRE_DATA=to)
    assert victim in said and "PNG" in said, said


def test_archive_that_is_there(url):
    """An archive is not kept: whether it has to be fetched is told by the files that were in it."""
    to = fresh("unpacked")
    os.makedirs(to + "/cifar-100-binary")
    for name in ("train.bin", "test.bin"):
        open(f"{to}/cifar-100-binary/{name}", "wb").write(b"not CIFAR-100")
    reset({})
    assert "404" in run("fetch", "cifar-100", "--to", to, "--url", url, code=1)
    assert Server.log == [("/sets/cifar-100-binary.tar.gz", 0)], "files with other checksums do not count"
    real = subprocess.run([CUTWIRE, "data", "verify", "cifar-100", "--json"], capture_output=True, text=True, timeout=120)
    if real.returncode != 0:
        print("SKIP: CIFAR-100 is not on this machine: fetching what is there not tested with an archive")
        return
    shutil.rmtree(to + "/cifar-100-binary")
    os.symlink(last_object(real.stdout)["sets"][0]["folder"], to + "/cifar-100-binary")
    reset({})
    out = run("fetch", "cifar-100", "--to", to, "--url", url)
    assert "nothing is fetched" in out and "50000 + 10000 samples" in out and Server.log == [], (out, Server.log)
    assert "404" in run("fetch", "cifar-100", "--to", to, "--url", url, "--force", code=1)
    assert len(Server.log) == 1, "--force fetches nevertheless"


def main():
    try:
        test_list()
        test_usage()
        test_missing()
        test_skipped()
        url = start_server()
        test_fetch_archive(url)
        test_archive_that_is_there(url)
        if os.path.exists(DEBIAN + "/train-images-idx3-ubyte.gz"):
            test_fetch_files(url)
            test_resume(url)
            test_failures(url)
        else:
            print("SKIP: dataset-fashion-mnist is not installed: downloads of files not tested")
    finally:
        shutil.rmtree(WORK)
    print("data: list, verify, fetch, resume, failures: as expected")


main()
