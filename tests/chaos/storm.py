#!/usr/bin/python3
"""Random faults for as long as is asked for: kills, cuts, stops, strangers and liars, seeded.

    storm.py PATH/TO/cutwire PATH/TO/chaos_liar [--minutes 30] [--seed 1] [--kind NAME]
    storm.py PATH/TO/cutwire PATH/TO/chaos_liar --short         all of it in little, for scripts/check

Round after round a run is trained while faults come at random. After each the server's log must show every (epoch, step,
client) applied exactly once, and every copy of the run's folder made meanwhile must have been a checkpoint to go on from.
Rounds of these kinds take turns:

    server   the server alone is killed, ended, stopped: the model is equal to the byte to that of an undisturbed run
    links    links are cut, closed, closed within a frame; clients and server are stopped: equal to the byte, too
    exact    both of these
    all      clients are killed as well: a client that was lost n times lacks in at most n steps
    liar     a fourth client lies, with --screen drop, among faults of all kinds: the other three are as in `all`. Again
             and again it is killed and comes back with another lie, until it has told them all

The order of kinds, of faults and of lies is drawn by the seed. Strangers are there in all of them: connections that say nothing, noise, and what an earlier connection has said.
"""
import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from parts import Ledger, Prober, Run, skip_without_data

class Season:
    """What a storm is like. Faults go on for so many seconds, one for so many; honest clients beside the liar."""

    honest, epochs, train, liar_train = 3, 3, 720, 2400
    faults, each_once, lie_steps = 100, False, 15
    stopped, silent, away, down, pause = [15, 30], [8, 12, 30], [12, 20], [0, 1, 5], 2
    look = 2  # about so long between looks at the checkpoint
    lies, liar_keys = [2, 3, 4, 5, 6, 7], ["--screen", "drop"]  # all are told


class Shower(Season):
    """In little, for scripts/check: each fault once. Without screening, which leaves single batches of honest clients out."""

    honest, epochs, train, liar_train = 2, 2, 640, 960
    faults, each_once, lie_steps = 15, True, 5
    stopped, silent, away, down, pause = [1, 3], [1, 3], [1, 3], [0, 0.3], 0.5
    look = 1
    lies, liar_keys = [2, 6, 7], []


KEYS = ["--batch", "8", "--test-limit", "96", "--join-timeout", "300", "--log-format", "json", "--log-level", "debug"]
LIES = {2: "random labels", 3: "activations x 1e4", 4: "gradients x 100", 5: "false statistics", 6: "NaN activations",
        7: "infinite gradients"}  # tests/train/liar.h


def keys_of(season):
    return ["--epochs", str(season.epochs), "--train-limit", str(season.train), *KEYS]


class Storm:
    """Faults for one run, one after the other; some go on while the next begins."""

    def __init__(self, run, kind, rnd, lies, season):
        self.run, self.random, self.count, self.going_on, self.season = run, rnd, {}, [], season
        self.lies = lies  # those to come
        server = [self.server_killed, self.server_terminated, self.server_stopped]
        links = [self.link_silent, self.link_closed, self.link_broken, self.client_stopped, self.server_stopped]
        strangers = [self.strangers]
        self.faults = {"server": server * 2 + strangers, "links": links + strangers, "exact": server + links + strangers,
                       "all": server + links + [self.client_killed] * 2 + strangers,
                       "liar": server + links + [self.client_killed] + strangers + [self.another_lie] * 5}[kind]

    def over(self):
        """The run has ended, or is about to: who kills a server then kills no training."""
        told = [e for _, e in self.run.server.events() if e["event"] in ("step", "evaluation", "epoch")]
        if not self.run.server.alive():
            return True
        return bool(told) and told[-1]["epoch"] == self.season.epochs and (told[-1]["event"] != "step" or told[-1]["step"] > told[-1]["steps"] - 15)

    def play(self):
        end = time.monotonic() + self.season.faults
        self.run.checkpoint()
        deck = self.random.sample(self.faults, len(self.faults))
        while not self.over() and time.monotonic() < end and deck:
            fault = deck.pop() if self.season.each_once else self.random.choice(self.faults)
            fault()
            time.sleep(self.random.choice([0, 0.1, 0.5, 1]) * self.season.pause * self.random.random())
        for thread in self.going_on:
            thread.join()

    def note(self, name):
        self.count[name] = self.count.get(name, 0) + 1
        print(f"    {time.strftime('%H:%M:%S')} {name}", flush=True)

    def behind(self, work, *args):
        """Or at once, as it falls."""
        if self.random.random() < 0.5:
            work(*args)
            return
        self.going_on.append(threading.Thread(target=work, args=args, daemon=True))
        self.going_on[-1].start()

    def client(self):
        return self.random.randrange(self.run.count)

    def may_begin_anew(self):
        """Not when the liar is gone for good: a server that has begun anew waits for all who were there."""
        return not self.run.liar or self.run.clients[-1].alive()

    def server_killed(self):
        if not self.may_begin_anew():
            return
        self.note("server killed, --resume")
        self.run.kill_server(self.random.choice(self.season.down))

    def server_terminated(self):
        if not self.may_begin_anew():
            return
        self.note("server ended by SIGTERM, --resume")
        self.run.kill_server(self.random.choice(self.season.down), signal.SIGTERM)

    def server_stopped(self):
        seconds = self.random.choice(self.season.stopped)
        self.note(f"server stopped {seconds} s")
        self.run.stop_for(self.run.server, seconds)

    def link_silent(self):
        seconds = self.random.choice(self.season.silent)
        self.note(f"link silent {seconds} s")
        self.behind(self.run.silence, self.client(), seconds)

    def link_closed(self):
        self.note("connection closed")
        self.run.links[self.client()].cut()

    def link_broken(self):
        self.note("connection closed within a frame")
        self.run.links[self.client()].break_next = True
        time.sleep(0.5)

    def client_stopped(self):
        seconds = self.random.choice(self.season.away)
        self.note(f"client stopped {seconds} s")
        self.behind(self.run.stop_for, self.run.clients[self.client()], seconds)

    def may_be_killed(self, client):
        """Not while one is stopped, which it may be. A server that has begun anew knows it once it has joined there: before
        that its place may be another's."""
        gone = not self.run.clients[client].alive() and all(self.joined(i + 1) for i in range(self.season.honest))
        return (gone or self.joined(client + 1) > 0) and not any(t.is_alive() for t in self.going_on)

    def client_killed(self):
        client, down = self.random.randrange(self.season.honest), self.random.choice(self.season.down)
        if self.may_be_killed(client):
            self.note("client killed, started again")
            self.run.kill_client(client, down)

    def another_lie(self):
        if not self.lies or not self.may_be_killed(self.season.honest):
            return
        lie = self.lies.pop()
        self.note(f"the liar is killed, and comes back with {LIES[lie]}")
        self.run.liar = (self.run.liar[0], lie)
        before = self.joined(self.run.count)
        self.run.kill_client(self.run.count - 1, 0)
        end = time.monotonic() + 60
        while self.joined(self.run.count) == before and not self.over():
            assert time.monotonic() < end, "the liar did not come back"
            time.sleep(0.3)
        steps = len(self.steps())
        while len(self.steps()) < steps + self.season.lie_steps and not self.over():  # statistics go with every tenth step's checkpoint
            assert time.monotonic() < end + 60, "the run does not go on beside the liar"
            time.sleep(0.3)

    def joined(self, client):
        return sum(e["event"] == "client_joined" and e["client"] == client for _, e in self.run.server.events())

    def steps(self):
        return [e for _, e in self.run.server.events() if e["event"] == "step"]

    def strangers(self):
        """They come and go; 50 stay silent for as long as the run lasts."""
        self.note("strangers")
        heard = max((link.heard for link in self.run.links), key=len)
        words = [b"", os.urandom(500), b"GET / HTTP/1.1\r\n\r\n", heard[:80], heard, heard[:len(heard) // 2] + b"x" * 99]
        self.silent = getattr(self, "silent", [])
        for i in range(60):
            try:
                s = socket.create_connection(("127.0.0.1", self.run.port), timeout=2)
                s.settimeout(2)
                s.sendall(words[i % len(words)])
                self.silent.append(s)
            except OSError:
                pass
        for s in self.silent[:-50]:
            s.close()
        self.silent = self.silent[-50:]


def judge(run, storm, prober, kind, expected):
    """What came of a round; `trouble` has what should not be."""
    liar = kind == "liar"
    storm.play()
    while storm.lies and not storm.over():
        storm.another_lie()
        time.sleep(0.3)
    got = finish(run, storm.season.honest)
    trouble = prober.finish()
    ledger = Ledger(run.servers)
    missing = ledger.check(storm.season.epochs, run.count, may_miss=(run.count,) if liar else ())
    trouble += ledger.trouble
    if kind in ("server", "links", "exact") and got["model"] != expected:
        trouble.append(f"the model is {got['model']}, undisturbed {expected}")
    if liar and storm.lies:
        trouble.append(f"the run was over before these were told: {[LIES[lie] for lie in storm.lies]}")
    if ledger.far - {4} and not liar:
        trouble.append(f"honest clients were screened: {sorted(ledger.far - {4})}")
    print(f"    {got['seconds']} s, applied {ledger.count()}, missing {missing}, lost {ledger.losses}, far {sorted(ledger.far)}, "
          f"checkpoints loaded {prober.loaded}, samples {got['samples']}, model {got['model']}", flush=True)
    return {"trouble": trouble, "applied": ledger.count(), "missing": missing}


def play(kind, number, rnd, liar_program, expected, season):
    lies = rnd.sample(season.lies, len(season.lies)) if kind == "liar" else []
    print(f"  round {number}: {kind}{' (' + LIES[lies[-1]] + ')' if lies else ''}", flush=True)
    more = [*season.liar_keys, "--train-limit", str(season.liar_train)] if lies else []
    run = Run(f"round{number}", season.honest + bool(lies), keys_of(season) + more,
              liar=(liar_program, lies.pop()) if lies else None)
    prober = Prober(run, random.Random(number), season.look)
    storm = Storm(run, kind, rnd, lies, season)
    try:
        result = judge(run, storm, prober, kind, expected)
    except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
        result = {"trouble": [f"{type(e).__name__}: {e}"[:2000]], "applied": 0, "missing": 0}
    finally:
        prober.stop = True
        run.end()
    for t in result["trouble"]:
        print("  WRONG:", t, flush=True)
    if result["trouble"]:
        run.tell()
    return result | {"loaded": prober.loaded, "faults": storm.count, "kind": kind}


def finish(run, honest):
    """A liar that was dropped is left behind."""
    if run.liar and not run.clients[-1].alive():
        run.clients[-1].finish()
    got_liar = run.clients[honest:]
    run.clients = run.clients[:honest]
    try:
        got = run.finish()
    finally:
        for p in got_liar:
            if p.alive():
                p.child.kill()
    assert set(got["codes"]) == {0}, got
    return got


def weather(options, season, liar):
    """Rounds until the time is over, in turns; or one of each kind that a shower has."""
    rnd = random.Random(options.seed)
    kinds = [options.kind] if options.kind else ["exact", "liar"] if options.short else ["server", "links", "all", "liar"]
    run = Run("undisturbed", season.honest, keys_of(season))
    expected = finish(run, season.honest)["model"]
    run.end()
    rounds, left, end = [], list(kinds) if options.short else [], time.monotonic() + 60 * options.minutes
    while left or (not options.short and time.monotonic() < end):
        left = left or rnd.sample(kinds, len(kinds))
        rounds.append(play(left.pop(), len(rounds) + 1, rnd, liar, expected, season))
    return kinds, rounds


def tell(kinds, rounds):
    faults = {}
    for kind in kinds:
        mine = [r for r in rounds if r["kind"] == kind]
        print(f"{kind:8} {len(mine)} rounds, applied {sum(r['applied'] for r in mine)}, missing {sum(r['missing'] for r in mine)}, "
              f"checkpoints loaded {sum(r['loaded'] for r in mine)}, wrong {sum(len(r['trouble']) for r in mine)}")
        for r in mine:
            for name, n in r["faults"].items():
                faults[name] = faults.get(name, 0) + n
    print("faults:", faults)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cutwire")
    parser.add_argument("liar")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=["server", "links", "exact", "all", "liar"])
    options = parser.parse_args()
    skip_without_data()
    liar = os.path.abspath(options.liar)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kinds, rounds = weather(options, Shower if options.short else Season, liar)
        os.chdir("/")
    tell(kinds, rounds)
    sys.exit(any(r["trouble"] for r in rounds))


main()
