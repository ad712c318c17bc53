"""Moves guests under load (test/load.c) between monitors; see migrate.sh."""
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SUBLET = os.path.abspath(os.environ.get("SUBLET", "build/sublet"))
IMAGE = os.path.join(os.environ.get("XDG_CACHE_HOME") or
                     os.path.expanduser("~/.cache"), "sublet/images/tiny")
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
while read -r m; do /bin/busybox insmod "/modules/$m" 2>/dev/null; done \
</modules/order
exec /load
"""
failed = 0
tmp = None


def result(name, problem=None):
    global failed
    failed += bool(problem)
    print("not ok %s: %s" % (name, problem) if problem else "ok " + name,
          flush=True)


class Wrong(Exception):
    pass


def check(good, what):
    if not good:
        raise Wrong(what)


def build():
    """An initrd that is the tiny image's and the load."""
    root = tmp + "/root"
    os.mkdir(root)
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", root + "/load",
                    "test/load.c"], check=True)
    with open(root + "/load-init", "w") as f:
        f.write(INIT)
    os.chmod(root + "/load-init", 0o755)
    extra = subprocess.run("find . | cpio -o -H newc --quiet", shell=True,
                           cwd=root, capture_output=True, check=True).stdout
    with open(IMAGE + "/initrd", "rb") as f:
        base = f.read()
    with open(tmp + "/initrd", "wb") as f:
        f.write(base + b"\0" * (-len(base) % 4) + extra)


class Monitor:
    """A sublet process and what its guest prints."""
    count = 0
    all = []

    def __init__(self, *args, engine="soft"):
        Monitor.count += 1
        Monitor.all.append(self)
        self.name = "m%d" % Monitor.count
        self.console = "%s/%s.console" % (tmp, self.name)
        self.err = "%s/%s.err" % (tmp, self.name)
        with open(self.err, "wb") as err:
            self.p = subprocess.Popen(
                [SUBLET, *args, "--engine", engine, "--name", self.name,
                 "--console", "file=" + self.console],
                stdin=subprocess.DEVNULL, stdout=err, stderr=err)

    def text(self):
        try:
            with open(self.console, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def errors(self):
        with open(self.err, errors="replace") as f:
            return f.read()

    def loads(self):
        return [int(n) for n in re.findall(r"LOAD (\d+) ", self.text())]

    def last(self):
        """The guest's counter; it must not have found anything wrong."""
        text = self.text()
        check("BAD" not in text, "the guest says: " + text[-300:])
        return (self.loads() or [0])[-1]

    def runs(self, more=3, seconds=30):
        """Waits until the guest has gone on a while."""
        start, end = self.last(), time.monotonic() + seconds
        while self.last() < start + more:
            check(self.p.poll() is None, "%s has ended: %s" %
                  (self.name, self.errors()))
            check(time.monotonic() < end, "%s stands still: %s" %
                  (self.name, self.errors()))
            time.sleep(0.05)

    def gone(self, seconds=20):
        try:
            return self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Wrong("%s does not end: %s" % (self.name, self.errors()))

    def says(self, words, seconds=20):
        end = time.monotonic() + seconds
        while words not in self.errors():
            check(time.monotonic() < end, "%s does not say '%s' but: %s" %
                  (self.name, words, self.errors()))
            time.sleep(0.05)

    def end(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()


def machine(mb=8, memory="128M", cpus=1, rate=0, disk_option=""):
    disk = "%s/disk%d" % (tmp, Monitor.count + 1)
    with open(disk, "wb") as f:
        f.truncate(8 << 20)
    m = Monitor("run", "--kernel", IMAGE + "/kernel", "--initrd",
                tmp + "/initrd", "--append",
                "console=ttyS0 quiet rdinit=/load-init load.mb=%d "
                "load.rate=%d" % (mb, rate),
                "--disk", disk + disk_option, "--memory", memory, "--cpus", str(cpus),
                "--net", "none")
    m.runs(1, 60)
    return m


def ready(place):
    """Waits until somebody listens there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if place.startswith("unix:"):
            if os.path.exists(place[5:]):
                return
        else:
            port = int(place.split(":")[-1])
            with open("/proc/net/tcp") as f:
                if ":%04X 00000000:0000 0A" % port in f.read():
                    return
        time.sleep(0.02)
    raise Wrong("nobody waits at " + place)


def receive(place, *args, engine="soft"):
    m = Monitor("receive", place, *args, engine=engine)
    ready(place)
    return m


def migrate(m, place, *args):
    return subprocess.Popen([SUBLET, "migrate", m.name, place, *args],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


class Started:
    """A monitor that somebody else has started."""

    def __init__(self, name):
        self.name = name

    def poll(self):
        p = subprocess.run([SUBLET, "info", self.name], capture_output=True)
        return p.returncode or None

    def wait(self, seconds=0):
        return 0

    def kill(self):
        subprocess.run([SUBLET, "kill", self.name], capture_output=True)


def move_by_command(m):
    """Over the standard streams of a command."""
    t = Monitor.__new__(Monitor)
    t.name, t.console = "started", tmp + "/started.console"
    t.err = tmp + "/started.err"
    p = migrate(m, "exec:%s receive stdio: --engine soft --name %s --console "
                "file=%s 2>%s" % (SUBLET, t.name, t.console, t.err))
    t.p = Started(t.name)
    Monitor.all.append(t)
    out = p.communicate(timeout=90)[0]
    check(p.returncode == 0, "migrate: " + out)
    check(m.gone() == 0, "the source: " + m.errors())
    t.runs()
    return t


def unix_place():
    return "unix:%s/sock%d" % (tmp, Monitor.count)


def tcp_place():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    return "tcp:127.0.0.1:%d" % port


def move(m, place, *args, to=()):
    """Moves m; the monitor where it is then."""
    before = m.last()
    t = receive(place, *to)
    p = migrate(m, place, *args)
    out = p.communicate(timeout=90)[0]
    check(p.returncode == 0, "migrate: " + out)
    check(m.gone() == 0, "the source: " + m.errors())
    t.runs()
    check(t.loads()[0] >= before, "the guest went back in time")
    check("BAD" not in m.text(), "the source's guest: " + m.text()[-200:])
    return t


def stays(m, p, words, seconds=30):
    """The migration p fails with these words, and m runs on."""
    out = p.communicate(timeout=seconds)[0]
    check(p.returncode == 125, "migrate ended with %d: %s" %
          (p.returncode, out))
    check(words in out, "'%s' is not in: %s" % (words, out))
    m.runs()


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


def test_target_killed(m):
    t, p = copying(unix_place(), m)
    t.p.kill()
    t.gone()
    stays(m, p, "gone away")


def test_target_stalls(m):
    t, p = copying(unix_place(), m, "--timeout", "1s")
    t.p.send_signal(signal.SIGSTOP)
    stays(m, p, "has not moved for 1 seconds")
    t.end()


def test_stream_killed(m):
    """A proxy cuts the connection in the middle."""
    place = unix_place()
    t = receive(place)
    with Proxy(place) as proxy:
        p = migrate(m, proxy.place, "--bandwidth", "20M")
        time.sleep(0.4)
        proxy.cut()
        stays(m, p, "gone away")
    check(t.gone() == 125, "the target's exit code")


def test_source_killed():
    m = machine()
    t, p = copying(unix_place(), m)
    m.end()
    p.communicate(timeout=20)
    check(t.gone() == 125, "the target's exit code")
    check("gone away" in t.errors(), "the target: " + t.errors())


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
    disk = tmp + "/disk%s" % m.disk
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


def certificates(name):
    """An authority and a certificate it signed; their options."""
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True)
    base = "%s/%s" % (tmp, name)
    for what in ("ca", "cert"):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out",
                base + ".%s.key" % what)
    openssl("req", "-x509", "-new", "-key", base + ".ca.key", "-subj",
            "/CN=%s authority" % name, "-days", "2", "-out", base + ".ca")
    openssl("req", "-new", "-key", base + ".cert.key", "-subj", "/CN=" + name,
            "-out", base + ".req")
    openssl("x509", "-req", "-in", base + ".req", "-CA", base + ".ca",
            "-CAkey", base + ".ca.key", "-CAcreateserial", "-days", "2",
            "-out", base + ".cert")
    return ["--tls-cert", base + ".cert", "--tls-key", base + ".cert.key",
            "--tls-ca", base + ".ca"]


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
    time.sleep(0.5)
    check(t.last() <= before + 1, "the guest runs without its memory")
    p = migrate(m, place, "--resume")
    out = p.communicate(timeout=60)[0]
    check(p.returncode == 0, "resume: " + out)
    check(m.gone() == 0, "the source: " + m.errors())
    t.runs(5)
    t.end()


def test_disks():
    """They go along: a file, then a private copy of one."""
    folder = tmp + "/disks"
    os.mkdir(folder)
    for option in ("", ",private"):
        m = machine(disk_option=option)
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
                m = machine(disk_option=option)
            else:
                m.runs()
            for f in os.listdir(folder):
                os.unlink(folder + "/" + f)
            m = move(m, unix_place() + "d", "--with-disks",
                     to=("--disks", folder))
            m.runs(10)
            disk, = os.listdir(folder)
            check(disk.endswith("-disk0.raw"), "the disk is called " + disk)
            check(os.path.getsize(folder + "/" + disk) == 8 << 20, "its size")
            with open(folder + "/" + disk, "rb") as f:
                check(any(f.read(4096)), "the disk at the target is empty")
            os.unlink(folder + "/" + disk)
        finally:
            m.end()


class Proxy:
    """Hands bytes on, until it is cut."""

    def __init__(self, place):
        self.place, self.to = place + ".proxy", place[5:]
        self.socks = []
        self.listen = socket.socket(socket.AF_UNIX)
        self.listen.bind(self.place[5:])
        self.listen.listen(20)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                a = self.listen.accept()[0]
            except OSError:
                return
            b = socket.socket(socket.AF_UNIX)
            b.connect(self.to)
            self.socks += [a, b]
            for x, y in ((a, b), (b, a)):
                threading.Thread(target=self.pump, args=(x, y),
                                 daemon=True).start()

    @staticmethod
    def pump(x, y):
        try:
            while True:
                data = x.recv(65536)
                if not data:
                    break
                y.sendall(data)
        except OSError:
            pass
        for s in (x, y):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        for s in self.socks:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.cut()
        self.listen.close()


# ---- for long ----

def one_of_two(m, t, p):
    """After a kill: exactly one side has the machine; None: it died."""
    out = p.communicate(timeout=60)[0]
    if m.p.poll() is None and "kept here, paused" in out:
        subprocess.run([SUBLET, "migrate", m.name, "--take-back"], check=True)
        m.runs()
        t.end()
        return m
    if "during post-copy" in out and t.p.poll() is not None:
        m.end() # it ran there, and died there
        return None
    if m.p.poll() is None:
        try:
            m.runs(2)
            t.end()
            return m
        except Wrong:
            if t.p.poll() is not None:
                raise
    check(t.p.poll() is None, "nobody has the machine; migrate said " + out +
          "; the target: " + t.errors())
    t.runs()
    return t


def random_round(m, rng):
    """A move by a random way; or one that ends with a death."""
    args = rng.choice([[], ["--streams", "3"], ["--compress", "lz4"],
                       ["--post-copy", "always"], ["--compress", "zstd"]])
    place = rng.choice([unix_place, tcp_place])()
    kind = rng.choice(["move", "move", "kill target", "kill source",
                       "cancel"])
    random_round.did = "%s %s %s" % (kind, place[:4], " ".join(args))
    if kind == "move":
        return move(m, place, *args)
    before = m.last()
    t = receive(place)
    p = migrate(m, place, *args)
    time.sleep(rng.random() * 0.25)
    if kind == "cancel":
        p.send_signal(signal.SIGINT)
        return one_of_two(m, t, p)
    (t if kind == "kill target" else m).p.kill()
    out = p.communicate(timeout=60)[0]
    if kind == "kill target":
        if m.p.poll() is None or "moved" not in out:
            t.gone()
            return one_of_two(m, t, p_done(out, p))
        return None  # it had moved, and died there
    try:
        t.runs()
        check(t.loads()[0] >= before, "the guest went back in time")
        return t
    except Wrong:
        if "post-copy" not in t.errors(): # its memory died with the source
            check(t.gone() == 125, "the target: " + t.errors())
        t.end()
        return None  # it died with its source


class p_done:
    def __init__(self, out, p):
        self.out, self.returncode = out, p.returncode

    def communicate(self, timeout=0):
        return (self.out, None)


def long(rounds):
    rng = random.Random(int(os.environ.get("SEED", time.time())))
    m = None
    for n in range(rounds):
        try:
            m = m or machine(cpus=rng.choice([1, 2]))
            m = random_round(m, rng)
        except (Wrong, subprocess.TimeoutExpired) as e:
            result("round %d (%s)" % (n, random_round.did), str(e))
            if os.environ.get("KEEP"):
                input("kept in %s" % tmp)
            if m:
                m.end()
            m = None
    if m:
        m.end()
    if not failed:
        print("ok %d random moves, kills and cancellations" % rounds)


def short():
    shared = None
    tests = [test_moves, test_source_killed, test_post_copy_resumed, test_disks,
             test_cancel, test_target_killed, test_target_stalls,
             test_stream_killed, test_refused, test_goals, test_dry_run,
             test_paused, test_nonsense, test_tls]
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
                    shared.disk = Monitor.count
                shared = test(shared) or shared
            result(name + (" (%.1f s)" % (time.monotonic() - start)
                           if only is not None else ""))
        except (Wrong, subprocess.TimeoutExpired) as e:
            result(name, str(e))
    if shared:
        shared.end()


def main():
    global tmp
    with tempfile.TemporaryDirectory() as tmp:
        os.environ["SUBLET_RUNTIME_DIR"] = tmp + "/run"
        os.mkdir(tmp + "/run", 0o700)
        build()
        try:
            if len(sys.argv) > 1:
                long(int(sys.argv[1]))
            else:
                short()
        finally:
            for m in Monitor.all:
                m.end()
    sys.exit(failed > 0)


main()
