"""Guests under load (load.c), the monitors that have them, and what stands
between two monitors: what migrate.py and migrate_random.py share."""
import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
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
tmp = tempfile.mkdtemp(prefix="sublet-move.")


class Wrong(Exception):
    pass


def check(good, what):
    if not good:
        raise Wrong(what)


def sublet(*args, seconds=30):
    """A verb that must succeed; what it prints."""
    p = subprocess.run([SUBLET, *args], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=seconds)
    check(p.returncode == 0, "sublet %s: %s" % (" ".join(args), p.stdout))
    return p.stdout


def prepare():
    """An initrd that is the tiny image's and the load; a place for names."""
    os.environ["SUBLET_RUNTIME_DIR"] = tmp + "/run"
    os.mkdir(tmp + "/run", 0o700)
    atexit.register(finish)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(finish() or 143))
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


def finish():
    """Nothing of ours is left."""
    for m in Monitor.all:
        m.end()
    if not os.environ.get("KEEP"):
        shutil.rmtree(tmp, ignore_errors=True)


class Monitor:
    """A sublet process and what its guest prints."""
    count = 0
    all = []

    def __init__(self, *args, engine="soft"):
        Monitor.count += 1
        Monitor.all.append(self)
        self.name = "m%d" % Monitor.count
        self.private, self.disk = False, None
        self.console = "%s/%s.console" % (tmp, self.name)
        self.err = "%s/%s.err" % (tmp, self.name)
        with open(self.err, "wb") as err:
            self.p = subprocess.Popen(
                [SUBLET, *args, "--engine", engine, "--name", self.name,
                 "--console", "file=" + self.console],
                stdin=subprocess.DEVNULL, stdout=err, stderr=err)

    @classmethod
    def named(cls, name):
        """One that somebody else has started."""
        m = cls.__new__(cls)
        m.name, m.p, m.private = name, Started(name), True
        m.console = m.err = "%s/%s.nothing" % (tmp, name)
        cls.all.append(m)
        return m

    @classmethod
    def tidy(cls, keep):
        """Forgets all that have ended but keep."""
        for m in cls.all:
            if m is not keep and m.p.poll() is not None:
                m.end()
        cls.all = [m for m in cls.all if m is keep or m.p.poll() is None]

    def text(self):
        try:
            with open(self.console, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def errors(self):
        try:
            with open(self.err, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def loads(self):
        return [int(n) for n in re.findall(r"LOAD (\d+) ", self.text())]

    def last(self):
        """The guest's counter; it must not have found anything wrong."""
        text = self.text()
        check("BAD" not in text, "%s's guest says: %s" %
              (self.name, text[-300:]))
        return (self.loads() or [0])[-1]

    def done(self):
        """What the guest's parts have done so far: pages, blocks, KiB."""
        lines = re.findall(r"LOAD \d+ memory (\d+) disk (\d+) tcp (\d+) gap",
                           self.text())
        return dict(zip(("memory", "disk", "tcp"),
                        map(int, lines[-1] if lines else (0, 0, 0))))

    def still(self, before):
        """The parts that have done nothing since."""
        return [k for k, v in self.done().items() if v <= before[k]]

    def runs(self, more=3, seconds=40):
        """Waits until the guest has gone on a while, each part of it."""
        start, end, before = 0, time.monotonic() + seconds, None
        while not start or self.last() < start + more or self.still(before):
            if not start:
                start, before = self.last(), self.done()
            check(self.p.poll() is None, "%s has ended: %s" %
                  (self.name, self.errors()))
            check(time.monotonic() < end, "%s stands still (at %d, %s): %s" %
                  (self.name, self.last(), before and self.still(before),
                   self.errors()))
            time.sleep(0.05)

    def gone(self, seconds=20):
        try:
            return self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Wrong("%s does not end: %s" % (self.name, self.errors()))

    def moved(self):
        """It ends well, as its machine has gone."""
        code = self.gone()
        check(code == 0, "the source %s ended with %s: %s" %
              (self.name, code, self.errors()))

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


def machine(mb=8, memory="128M", cpus=1, rate=0, private=False,
            interpret=False):
    disk = "%s/disk%d" % (tmp, Monitor.count + 1)
    with open(disk, "wb") as f:
        f.truncate(8 << 20)
    m = Monitor("run", "--kernel", IMAGE + "/kernel", "--initrd",
                tmp + "/initrd", "--append",
                "console=ttyS0 quiet rdinit=/load-init load.mb=%d "
                "load.rate=%d" % (mb, rate),
                "--disk", disk + (",private" if private else ""), "--memory",
                memory, "--cpus", str(cpus), "--net", "none",
                *(["--interpret"] if interpret else []))
    m.disk, m.private = disk, private
    m.runs(1, 90)
    return m


def ready(place):
    """Waits until somebody listens there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if place.startswith("unix:"):
            with open("/proc/net/unix") as f:
                if re.search(r" 00010000 .* %s$" % place[5:], f.read(), re.M):
                    return
        else:
            port = int(place.split(":")[-1])
            with open("/proc/net/tcp") as f:
                if ":%04X 00000000:0000 0A" % port in f.read():
                    return
        time.sleep(0.02)
    raise Wrong("nobody waits at " + place)


def receive(place, *args, interpret=False):
    m = Monitor("receive", place, *args,
                *(["--interpret"] if interpret else []))
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
    t = Monitor.named("started")
    t.console, t.err = tmp + "/started.console", tmp + "/started.err"
    p = migrate(m, "exec:%s receive stdio: --engine soft --name %s --console "
                "file=%s 2>%s" % (SUBLET, t.name, t.console, t.err))
    out = p.communicate(timeout=90)[0]
    check(p.returncode == 0, "migrate: " + out)
    m.moved()
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


def move(m, place, *args, to=(), interpret=False):
    """Moves m; the monitor where it is then."""
    before = m.last()
    t = receive(place, *to, interpret=interpret)
    p = migrate(m, place, *args)
    out = p.communicate(timeout=90)[0]
    check(p.returncode == 0, "migrate: " + out)
    m.moved()
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


FRAMES = {1: "HELLO", 2: "ACCEPT", 3: "REFUSE", 4: "PAGES", 5: "BARRIER",
          6: "BARRIER_ACK", 7: "STATE", 8: "STATE_END", 9: "READY",
          10: "COMMIT", 11: "RUNNING", 12: "MISSING", 13: "FETCH",
          14: "COMPLETE", 16: "DISK"}
# What the source says; the target says the rest.
SOURCE = ("PREAMBLE", "HELLO", "PAGES", "BARRIER", "DISK", "STATE",
          "STATE_END", "MISSING", "COMMIT", "COMPLETE")


class Frames:
    """Divides what comes on a connection into pieces of frames."""
    HEADER = 24

    def __init__(self, preamble, readable):
        self.readable = readable
        self.kind, self.left = ("PREAMBLE", 16) if preamble else (None, 0)
        self.first, self.head = True, b""

    def pieces(self, data):
        """(bytes, kind of frame, begins it, ends it)."""
        if not self.readable:
            yield data, "ANY", True, True
            return
        while data:
            if self.kind is None:
                n = self.HEADER - len(self.head)
                self.head, data = self.head + data[:n], data[n:]
                if len(self.head) < self.HEADER:
                    return
                number = int.from_bytes(self.head[:4], "little")
                self.kind = FRAMES.get(number, "?")
                self.left = (int.from_bytes(self.head[4:8], "little") +
                             self.HEADER)
                data, self.head, self.first = self.head + data, b"", True
            part, data = data[:self.left], data[self.left:]
            self.left -= len(part)
            yield part, self.kind, self.first, not self.left
            self.first = False
            if not self.left:
                self.kind = None


def address(place):
    if place.startswith("unix:"):
        return socket.AF_UNIX, place[5:]
    return socket.AF_INET, ("127.0.0.1", int(place.split(":")[-1]))


class Moment:
    """Of a connection: the nth frame of a kind (ANY: piece) of one side (0:
    source), before, within or after it."""

    def __init__(self, kind, nth=1, where="within", side=None):
        self.kind, self.nth, self.where = kind, nth, where
        self.side = side if side is not None else int(kind not in SOURCE)

    def __str__(self):
        return "%s %s %d of %s" % (self.where, self.kind, self.nth,
                                   ("source", "target")[self.side])

    def due(self, side, kind, first, last):
        if side != self.side or kind != self.kind or self.nth <= 0:
            return False
        self.nth -= first if self.where != "after" else last
        return not self.nth


class Proxy:
    """Hands bytes on between a source and a target, until it is cut. At a
    moment it does an act: given the bytes of the piece that are still to go,
    it returns what shall go; None: nothing goes this way any more."""

    def __init__(self, place, moment=None, act=None, tls=False):
        self.moment, self.act, self.readable = moment, act, not tls
        self.acted = threading.Event()
        self.lock = threading.Lock()
        self.socks = []
        self.to = address(place)
        self.place = (place + ".proxy" if place.startswith("unix:")
                      else tcp_place())
        self.listen = socket.socket(self.to[0])
        self.listen.bind(address(self.place)[1])
        self.listen.listen(20)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                a = self.listen.accept()[0]
            except OSError:
                return
            b = socket.socket(self.to[0])
            try:
                b.connect(self.to[1])
            except OSError:
                a.close()
                continue
            self.socks += [a, b]
            for side, x, y in ((0, a, b), (1, b, a)):
                threading.Thread(target=self.pump, args=(side, x, y),
                                 daemon=True).start()

    def due(self, side, kind, first, last):
        with self.lock:
            if not self.moment or self.acted.is_set() or \
                    not self.moment.due(side, kind, first, last):
                return False
            self.acted.set()
            return True

    def pass_on(self, side, y, piece, kind, first, last):
        if not self.due(side, kind, first, last):
            y.sendall(piece)
            return True
        at = {"before": 0, "within": len(piece) // 2,
              "after": len(piece)}[self.moment.where]
        y.sendall(piece[:at])
        rest = self.act(self, piece[at:])
        if rest is None:
            return False
        y.sendall(rest)
        return True

    def pump(self, side, x, y):
        frames = Frames(side == 0, self.readable)
        try:
            while True:
                data = x.recv(65536)
                if not data:
                    break
                for piece in frames.pieces(data):
                    if not self.pass_on(side, y, *piece):
                        return
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
