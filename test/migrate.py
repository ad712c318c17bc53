"""Moves guests under load between monitors; see migrate.sh."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import migrate_random
from moves import (Moment, Monitor, Proxy, SUBLET, Wrong, certificates, check, finish,
                   machine, migrate, move, move_by_command, prepare, ready,
                   receive, stays, sublet, tcp_place, tmp, unix_place)

failed = 0


def result(name, problem=None):
    global failed
    failed += bool(problem)
    print("not ok %s: %s" % (name, problem) if problem else "ok " + name,
          flush=True)


def copying(place, m, *args, to=()):
    """A migration that is slow enough to be disturbed."""
    t = receive(place, *to)
    p = migrate(m, place, "--bandwidth", "20M", *args)
    time.sleep(0.4)
    check(p.poll() is None, "the migration is over too early")
    return t, p


# ---- tests ----

def test_moves():
    m = machine(cpus=2)
    try:
        m = move(m, unix_place())
        m = move(m, tcp_place(), "--streams", "4", "--compress", "zstd")
        m = move(m, unix_place(), "--post-copy", "always")
        m = move(m, tcp_place(), "--compress", "lz4", "--streams", "16")
        m = move_by_command(m)
    finally:
        m.end()


def test_cancel(m):
    t, p = copying(unix_place(), m)
    p.send_signal(signal.SIGINT)
    stays(m, p, "cancelled")
    check(t.gone() == 125, "the target's exit code")
    check("gave up" in t.errors() or "gone away" in t.errors(),
          "the target: " + t.errors())


def test_target_stalls(m):
    t, p = copying(unix_place(), m, "--timeout", "1s")
    t.p.send_signal(signal.SIGSTOP)
    stays(m, p, "has not moved for 1 seconds")
    t.end()


def test_stages(m):
    """Cut, stalled, damaged, cancelled or killed within a frame of each kind;
    exactly one side has it then."""
    kinds = ["PREAMBLE", "HELLO", "ACCEPT", "PAGES", "BARRIER", "BARRIER_ACK",
             "STATE", "STATE_END", "READY", "COMMIT", "RUNNING", "MISSING",
             "COMPLETE"]
    for n, kind in enumerate(kinds):
        act = migrate_random.ACTS[n % len(migrate_random.ACTS)]
        if not m or m.p.poll() is not None:
            m = machine()
        way = migrate_random.Way.plain(
            m, "always" if kind in ("MISSING", "COMPLETE") else "never")
        try:
            m = migrate_random.disturb(m, way, act, Moment(kind))
        except Wrong as e:
            raise Wrong("%s in %s: %s" % (act.__name__, kind, e))
    return m or machine()


def test_twice(m):
    """One migration at a time, and one machine for a target."""
    t, p = copying(unix_place(), m)
    other = receive("unix:%s/other" % tmp)
    second = migrate(m, "unix:%s/other" % tmp)
    out = second.communicate(timeout=20)[0]
    check(second.returncode == 125 and "busy" in out, out)
    out = p.communicate(timeout=60)[0]
    check(p.returncode == 0 and m.gone() == 0, out)
    other.end()
    t.runs()
    return t


def test_disk_full():
    """No room at the target for what comes along."""
    folder = tmp + "/small"
    os.mkdir(folder)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs",
                       folder], capture_output=True).returncode:
        print("skip disk full: not root")
        return
    try:
        m = machine()
        m.runs(8) # the disk has some content
        place = unix_place()
        t = receive(place, "--disks", folder)
        stays(m, migrate(m, place, "--with-disks"), "No space")
        check(t.gone() == 125, "the target's exit code")
        check(not os.listdir(folder), "half a disk is left")
        m.end()
    finally:
        subprocess.run(["umount", folder])


def test_nonsense(m):
    """Those who speak otherwise do not disturb a target that waits."""
    place = unix_place()
    t = receive(place)
    for first in (b"GET / HTTP/1.1\r\n\r\n\r\n",
                  b"SUBLETmg\x63\x00\x00\x00\x01\x02\x03\x04",
                  b"SUBLETmg\x01\x00\x00\x00\x01\x02\x03\x04" + b"x" * 24,
                  b"SUBLETmg\x01\x00\x01\x02\x01\x02\x03\x04"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(place[5:])
        s.sendall(first)
        s.settimeout(10)
        try:
            while s.recv(4096):
                pass
        except ConnectionResetError:
            pass
        s.close()
    t.says("does not speak")
    t.says("version 99")
    t.says("wrong checksum")
    out = migrate(m, place).communicate(timeout=60)[0]
    check(m.gone() == 0, "migrate: " + out)
    t.runs()
    return t


def test_refused(m):
    """What the target lacks is said before anything moves."""
    place = unix_place()
    t = receive(place)
    disk = m.disk
    os.rename(disk, disk + ".away")
    try:
        stays(m, migrate(m, place), "lacks what the machine needs: disk")
    finally:
        os.rename(disk + ".away", disk)
    t.end()


def test_paused(m):
    """A machine that stands still would run there."""
    subprocess.run([SUBLET, "pause", m.name], check=True)
    out = migrate(m, "unix:%s/none" % tmp).communicate(timeout=20)[0]
    subprocess.run([SUBLET, "resume", m.name], check=True)
    check("is paused" in out, out)
    m.runs()


def test_dry_run(m):
    place = unix_place()
    t = receive(place)
    p = migrate(m, place, "--dry-run")
    out = p.communicate(timeout=60)[0]
    check(p.returncode == 0 and "Nothing was moved" in out, out)
    m.runs()
    t.end()


def test_tls(m):
    """Only between holders of certificates of the same authority."""
    if not shutil.which("openssl"):
        print("skip tls: no openssl")
        return m
    good, bad = certificates("good"), certificates("bad")
    place = tcp_place()
    t = receive(place, *good)
    stays(m, migrate(m, place, *bad), "certificate")
    stays(m, migrate(m, place), "gone away")
    t.says("refused: TLS")
    p = migrate(m, place, "--streams", "3", *good)
    out = p.communicate(timeout=60)[0]
    check(p.returncode == 0 and m.gone() == 0, "migrate: " + out)
    t.runs()
    stays(t, migrate(t, "tcp:192.0.2.1:99"), "--insecure")
    r = subprocess.run([SUBLET, "receive", "tcp:0.0.0.0:99"], text=True,
                       capture_output=True)
    check(r.returncode == 125 and "--insecure" in r.stderr, r.stderr)
    return t


def test_goals(m):
    """It says why it cannot be, and what would help."""
    t = receive("unix:%s/goals" % tmp)
    p = migrate(m, "unix:%s/goals" % tmp, "--bandwidth", "20M", "--max-time",
                "1s", "--max-slowdown", "0%", "--max-downtime", "10ms",
                "--post-copy", "never")
    stays(m, p, "What would help")
    check(t.gone() == 125, "the target's exit code")


def answers_meanwhile(t):
    """A machine without all of its memory: its monitor is not stuck."""
    sublet("ps")
    sublet("info", t.name)
    sublet("stats", t.name)
    sublet("nmi", t.name)
    for verb in (["pause", t.name], ["snapshot", t.name, tmp + "/part"],
                 ["migrate", t.name, "unix:%s/none" % tmp]):
        p = subprocess.run([SUBLET, *verb], capture_output=True, text=True,
                           timeout=20)
        check(p.returncode == 125 and "still at its source" in p.stderr,
              "%s: %s" % (verb[0], p.stderr))


def test_post_copy_ended():
    """Such a machine can be ended."""
    for end in ("stop", "signal"):
        m = machine()
        place = unix_place()
        t = receive(place)
        with Proxy(place) as proxy:
            p = migrate(m, proxy.place, "--post-copy", "always",
                        "--bandwidth", "20M")
            soon = time.monotonic() + 20
            while not t.loads() and time.monotonic() < soon:
                time.sleep(0.02)
            proxy.cut()
            p.communicate(timeout=30)
        t.says("stands still")
        if end == "stop":
            sublet("stop", "--now", t.name)
        else:
            t.p.terminate()
        check(t.gone(8) == (0 if end == "stop" else 143), "its exit code")
        check(t.name not in sublet("ps"), "its name is left")
        check(not os.path.exists(place[5:]), "its socket is left")
        m.end()


def test_post_copy_resumed():
    m = machine(mb=24)
    place = unix_place()
    t = receive(place)
    with Proxy(place) as proxy:
        p = migrate(m, proxy.place, "--post-copy", "always", "--bandwidth",
                    "20M")
        end = time.monotonic() + 20
        while t.last() == 0 and time.monotonic() < end:
            time.sleep(0.02)
        proxy.cut()
        out = p.communicate(timeout=30)[0]
        check(p.returncode == 125 and "--resume" in out, out)
        t.says("stands still")
    before = t.last()
    answers_meanwhile(t)
    time.sleep(0.5)
    check(t.last() <= before + 1, "the guest runs without its memory")
    p = migrate(m, place, "--resume")
    out = p.communicate(timeout=60)[0]
    check(p.returncode == 0, "resume: " + out)
    m.moved()
    t.runs(5)
    t.end()


def test_disks():
    """They go along: a file, then a private copy of one."""
    folder = tmp + "/disks"
    os.mkdir(folder)
    for option in ("", ",private"):
        m = machine(private=bool(option))
        try:
            place = unix_place()
            t = receive(place)
            stays(m, migrate(m, place, "--with-disks"), "--disks FOLDER")
            t.end()
            t, p = copying(place, m, "--with-disks", to=("--disks", folder))
            end = time.monotonic() + 20
            while ".partial" not in str(os.listdir(folder)):
                check(time.monotonic() < end, "no disk yet")
                time.sleep(0.02)
            t.p.kill() if option else m.p.kill()
            p.communicate(timeout=20)
            t.gone()
            if not option:
                check(not os.listdir(folder), "half a disk is left")
                m = machine(private=bool(option))
            else:
                m.runs()
            for f in os.listdir(folder):
                os.unlink(folder + "/" + f)
            m = move(m, unix_place() + "d", "--with-disks",
                     to=("--disks", folder))
            m.runs(4)
            disk, = os.listdir(folder)
            check(disk.endswith("-disk0.raw"), "the disk is called " + disk)
            check(os.path.getsize(folder + "/" + disk) == 8 << 20, "its size")
            with open(folder + "/" + disk, "rb") as f:
                check(any(f.read(4096)), "the disk at the target is empty")
            os.unlink(folder + "/" + disk)
        finally:
            m.end()


def short():
    shared = None
    tests = [test_moves, test_post_copy_resumed, test_post_copy_ended,
             test_disks, test_disk_full, test_refused, test_cancel,
             test_stages, test_twice, test_target_stalls, test_goals,
             test_dry_run, test_paused, test_nonsense, test_tls]
    only = os.environ.get("ONLY")
    for test in tests:
        if only and only not in test.__name__:
            continue
        name = test.__name__[5:].replace("_", " ")
        start = time.monotonic()
        try:
            if not test.__code__.co_argcount:
                test()
            else:
                if not shared or shared.p.poll() is not None:
                    shared = machine()
                shared = test(shared) or shared
            result(name + (" (%.1f s)" % (time.monotonic() - start)
                           if only is not None else ""))
        except (Wrong, subprocess.TimeoutExpired) as e:
            result(name, str(e))
    if shared:
        shared.end()
    if not only or only in "random":
        migrate_random.rounds(10, result)


def main():
    prepare()
    if len(sys.argv) > 1:
        migrate_random.rounds(int(sys.argv[1]), result)
    else:
        short()
    finish()
    sys.exit(failed > 0)


main()
