"""Random moves of guests under load: by all ways, with deaths, cuts, stalls
and damage at random moments, between them snapshots, restores and clones; see
migrate.sh. After each round exactly one monitor has the machine, or it died
with a killed one."""
import os
import random
import re
import shutil
import signal
import subprocess
import time

from moves import (Moment, Monitor, Proxy, Wrong, certificates, check, machine,
                   migrate, move, receive, sublet, tcp_place, tmp, unix_place)

KINDS = ["PREAMBLE", "HELLO", "ACCEPT", "PAGES", "BARRIER", "BARRIER_ACK",
         "STATE", "STATE_END", "READY", "COMMIT", "RUNNING"]
POST = ["MISSING", "FETCH", "COMPLETE"]


class Way:
    """How to go: options of both sides, and the place."""
    tls = None

    def __init__(self, m, rng):
        self.disks = m.private or rng.random() < 0.2
        self.post = rng.choice(["never", "auto", "always"])
        self.secure = rng.random() < 0.3 and shutil.which("openssl")
        self.place = rng.choice([unix_place, tcp_place])()
        self.interpret = rng.random() < 0.2
        self.source = ["--streams", str(rng.choice([1, 1, 3, 16])),
                       "--compress", rng.choice(["auto", "none", "lz4",
                                                 "zstd"]),
                       "--post-copy", self.post, "--max-downtime",
                       "2s" if self.post == "never" else "50ms"]
        self.target = []
        if self.secure:
            Way.tls = Way.tls or certificates("random")
            self.place = tcp_place()
            self.source += Way.tls
            self.target += Way.tls
        self.folder = None
        if self.disks:
            self.folder = "%s/disks%d" % (tmp, Monitor.count)
            os.mkdir(self.folder)
            self.source += ["--with-disks"]
            self.target += ["--disks", self.folder]

    @classmethod
    def plain(cls, m, post):
        way = cls.__new__(cls)
        way.disks = way.secure = way.interpret = False
        way.post, way.place, way.folder = post, unix_place(), None
        way.source, way.target = ["--post-copy", post], []
        return way

    def __str__(self):
        return "%s%s%s%s" % (
            " ".join(a for a in self.source[:6]), " with disks" * self.disks,
            " TLS" * bool(self.secure), " to interpreter" * self.interpret)


def act_cut(proxy, rest, m, t, p):
    proxy.cut()


def act_stall(proxy, rest, m, t, p):
    return None


def act_flip(proxy, rest, m, t, p):
    return bytes([rest[0] ^ 0x10]) + rest[1:] if rest else rest


def act_cancel(proxy, rest, m, t, p):
    p.send_signal(signal.SIGINT)
    return rest


def act_kill_source(proxy, rest, m, t, p):
    m.p.kill()
    return rest


def act_kill_target(proxy, rest, m, t, p):
    t.p.kill()
    return rest


ACTS = [act_cut, act_stall, act_flip, act_cancel, act_kill_source,
        act_kill_target]


def lives(m):
    return m.p.poll() is None


def target_gives_up(t, act):
    """It has got nothing: it ends, or waits for somebody else."""
    end = time.monotonic() + 20
    while lives(t) and "refused: " not in t.errors() and \
            time.monotonic() < end:
        time.sleep(0.05)
    check(lives(t) or act is act_kill_target or t.p.poll() == 125,
          "the target ended with %s: %s" % (t.p.poll(), t.errors()))
    check(not lives(t) or "refused: " in t.errors(),
          "the target does not give up: " + t.errors())
    t.end()
    check(not t.loads(), "both sides ran")


def stayed(m, t, act, way):
    m.runs(2)
    target_gives_up(t, act)
    left = os.listdir(way.folder) if way.folder else []
    check(act is act_kill_target or not left, "left there: %s" % left)
    return m


def unsure(m, t, out, way):
    """The source has it, paused; people look whether the target runs."""
    end = time.monotonic() + 15
    while lives(t) and not t.loads() and time.monotonic() < end and \
            "stands still" not in t.errors():
        time.sleep(0.05)
    if lives(t) and "stands still" in t.errors():
        return broken(m, t, way)
    if not t.loads():
        t.end()
        sublet("migrate", m.name, "--take-back")
        m.runs()
        return m
    before = m.last()
    time.sleep(0.5)
    check(m.last() == before, "both sides run: " + out)
    m.end()
    if not lives(t):
        return None
    t.runs()
    return t


def broken(m, t, way):
    """In the middle of post-copy: it goes on there."""
    if not lives(t):
        m.end()
        return None # a part of it was there, a part here
    sublet("info", t.name)
    sublet("ps")
    args = Way.tls if way.secure else []
    sublet("migrate", m.name, way.place, "--resume", *args, seconds=60)
    m.moved()
    t.runs()
    return t


def source_died(m, t):
    """The target has all or nothing; or, by post-copy, too little."""
    end = time.monotonic() + 15
    while lives(t) and not t.loads() and "post-copy" not in t.errors() and \
            time.monotonic() < end:
        time.sleep(0.05)
    if lives(t) and t.loads() and "stands still" not in t.errors():
        try:
            t.runs()
            return t
        except Wrong:
            check("stands still" in t.errors(), t.errors())
    if not t.loads() and "stands still" not in t.errors():
        target_gives_up(t, None)
    t.end()
    return None


def fate(m, t, p, act, acted, way):
    """Who has it after a disturbed migration; None: nobody."""
    out = p.communicate(timeout=60)[0]
    if act is act_kill_source and acted:
        m.gone()
        if p.returncode:
            return source_died(m, t)
    if p.returncode == 0:
        m.moved()
        if act is act_kill_target and acted:
            t.gone()
            return None # it died there
        t.runs()
        return t
    check(p.returncode == 125, "migrate ended with %d: %s" %
          (p.returncode, out))
    if "kept here, paused" in out:
        return unsure(m, t, out, way)
    if "during post-copy" in out:
        return broken(m, t, way)
    check(lives(m), "nobody has it: " + out + m.errors())
    return stayed(m, t, act, way)


def disturb(m, way, act, moment):
    t = receive(way.place, "--timeout", "1", *way.target,
                interpret=way.interpret)
    box = []
    with Proxy(way.place, moment, lambda proxy, rest:
               act(proxy, rest, m, t, box[0]), tls=bool(way.secure)) as proxy:
        box.append(migrate(m, proxy.place, "--timeout", "1s", *way.source))
        box[0].wait(60)
        now = fate(m, t, box[0], act, proxy.acted.is_set(), way)
    if now is t and way.disks:
        t.private = False
    elif now is t:
        t.private = m.private
    return now


def round_disturbed(m, rng, say):
    way, act = Way(m, rng), rng.choice(ACTS)
    kinds = KINDS + POST * (way.post != "never") + ["DISK"] * way.disks
    kind = rng.choice(kinds)
    many = {"PAGES": 60, "DISK": 20, "FETCH": 5}.get(kind, 1)
    moment = Moment(kind, rng.randint(1, many),
                    rng.choice(["before", "within", "after"]))
    if way.secure:
        moment = Moment("ANY", rng.randint(1, 120), side=rng.choice([0, 0, 1]))
    say("%s %s, %s" % (act.__name__[4:].replace("_", " "), moment, way))
    return disturb(m, way, act, moment)


def round_move(m, rng, say):
    way = Way(m, rng)
    say("move %s" % way)
    t = move(m, way.place, *way.source, to=way.target,
             interpret=way.interpret)
    t.private = m.private and not way.disks
    return t


def round_snapshot(m, rng, say):
    """Saved, killed, restored."""
    folder = "%s/snapshot%d" % (tmp, Monitor.count)
    say("snapshot of %s disk" % ("a private" if m.private else "a shared"))
    if not m.private: # what it writes after the snapshot would be too much
        sublet("pause", m.name)
    sublet("snapshot", m.name, folder, *rng.choice([[], ["--compress", "zstd"]]),
           seconds=120)
    before = m.last()
    m.end()
    t = Monitor("restore", folder)
    t.private = True
    t.runs()
    check(t.loads()[0] <= before + 2 or not m.private,
          "the guest goes on from later than it was saved")
    return t


def round_clone(m, rng, say):
    """Two clones; each moves to where its console is seen, one is kept."""
    say("clones")
    if not m.private:
        return round_snapshot(m, rng, say)
    out = sublet("clone", m.name, "-n", "2", seconds=120)
    names = re.findall(r"^%s-[0-9]+\b" % m.name, out, re.M)
    check(len(names) == 2, "clone printed " + out)
    all = [m]
    for name in names:
        c = Monitor.named(name)
        way = Way(m, rng)
        t = receive(way.place, *way.target)
        out = migrate(c, way.place, *way.source).communicate(timeout=90)[0]
        t.private = not way.disks
        check("moved" in out, "the clone: " + out)
        all.append(t)
    for c in all:
        c.runs()
    keep = rng.choice(all)
    for c in all:
        if c is not keep:
            c.end()
    return keep


ROUNDS = [round_move] * 6 + [round_disturbed] * 10 + [round_snapshot] * 2 + \
    [round_clone] * 2


def new_machine(rng):
    return machine(cpus=rng.choice([1, 2]), private=rng.random() < 0.5,
                   interpret=rng.random() < 0.15)


def one_round(m, rng, say):
    m = m or new_machine(rng)
    return rng.choice(ROUNDS)(m, rng, say)


def rounds(count, result):
    """Calls result(name, problem or None) for each that goes wrong."""
    seed = int(os.environ.get("SEED") or time.time())
    rng, m, did = random.Random(seed), None, []
    bad = 0
    for n in range(count):
        did.clear()
        start = time.monotonic()
        try:
            m = one_round(m, rng, did.append)
            if os.environ.get("VERBOSE"):
                print("round %d: %s: %.1f s%s" %
                      (n, did[0], time.monotonic() - start,
                       "" if m else ", died"), flush=True)
        except (Wrong, OSError, subprocess.TimeoutExpired) as e:
            bad += 1
            result("random round %d of seed %d (%s)" % (n, seed, did), str(e))
            if os.environ.get("KEEP"):
                input("kept in %s" % tmp)
            for other in Monitor.all:
                other.end()
            m = None
        Monitor.tidy(m)
    if m:
        m.end()
    if not bad:
        result("%d random moves, disturbances, snapshots and clones" % count)
