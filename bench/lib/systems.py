# SPDX-License-Identifier: BSD-2-Clause
"""The systems that are compared, and one run of workloads on one of them."""
import functools
import os
import shlex
import subprocess
import sys
import threading
import time

from . import image

MEMORY = "1G"
TIMEOUT = 600  # seconds that a run may take
TCG_SETS = {"tcg": "tcg,thread=multi", "tcg1": "tcg,thread=single"}
TITLES = {"host": "host", "sublet": "sublet", "tcg": "TCG",
          "tcg1": "TCG, one thread", "interp": "interpreter"}


class Run:
    """What one run printed. times: nanoseconds by workload; checks: checksums
    of programs' output; memory: the monitor's own KiB at idle, busy, done."""

    def __init__(self):
        self.times, self.checks, self.memory = {}, {}, {}
        self.failed, self.lines = [], []
        self.clock = 1.0  # how fast the guest's clock runs

    def line(self, line):
        self.lines.append(line)
        f = line.split()
        if line.startswith("failed "):
            self.failed.append(line[7:])
        elif len(f) == 3 and f[0] == "check":
            self.checks[f[1]] = f[2]
        elif len(f) == 2 and f[1].replace(".", "", 1).isdigit():
            self.times[f[0]] = float(f[1])

    def set_clock(self, guest, host):
        """Seconds between two lines, by both clocks. They come with a delay,
        so that a short time says nothing."""
        if abs(guest - host) > 0.2:
            self.clock = guest / host


def monitor(name, kernel, initrd, disk, append, cpus):
    """The command that starts a guest."""
    if name in ("sublet", "interp"):
        return [image.TOP + "/build/sublet", "run", "--engine", "soft",
                "--memory", MEMORY, "--cpus", str(cpus), "--net", "none",
                "--kernel", kernel, "--initrd", initrd, "--append", append,
                "--disk", disk + ",ro"] + (
                    ["--interpret"] if name == "interp" else [])
    return ["qemu-system-x86_64", "-machine", "q35,memory-backend=ram",
            "-object", "memory-backend-memfd,id=ram,size=" + MEMORY,
            "-accel", TCG_SETS[name], "-cpu", "max", "-m", MEMORY,
            "-smp", str(cpus), "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-kernel", kernel,
            "-initrd", initrd, "-append", append, "-drive",
            "if=virtio,format=raw,readonly=on,file=" + disk]


def family(pid):
    """A process and all that it started."""
    pids = [pid]
    for p in pids:
        try:
            for t in os.listdir("/proc/%d/task" % p):
                with open("/proc/%d/task/%s/children" % (p, t)) as f:
                    pids += map(int, f.read().split())
        except OSError:
            pass
    return pids


def own_memory(pid):
    """KiB resident in a monitor's processes, the guest's RAM apart. A page
    that a process maps twice, as translated code is, counts once."""
    total, counted, shared = 0, False, False
    for p in family(pid):
        try:
            with open("/proc/%d/smaps" % p) as f:
                lines = f.readlines()
        except OSError:
            continue
        for l in lines:
            head = l.split(None, 5)
            if not head[0].endswith(":"):
                path = head[5] if len(head) > 5 else ""
                counted = not path.startswith(("/memfd:sublet-ram",
                                               "/memfd:memory-backend"))
                shared = head[1].endswith("s")
            elif counted and head[0] == ("Pss:" if shared else "Rss:"):
                total += int(head[1])
    return total


def guest_command(name, files, cpus, works):
    """Boots a guest that runs workloads, after reading all files once if one
    of them is a program."""
    warm = any(w in files["programs"] for w in works)
    append = "console=ttyS0 quiet panic=-1 rdinit=/bench-init bench=" + (
        ",".join(works) + (" bench.warm" if warm else ""))
    return monitor(name, image.TINY + "/kernel", files["initrd"],
                   files["root"] + "/disk", append, cpus)


def guest(command):
    """Runs a guest; returns its Run."""
    r = Run()
    start = time.monotonic()
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    watch = threading.Timer(TIMEOUT, p.kill)
    watch.start()
    try:
        for raw in p.stdout:
            at = time.monotonic()
            line = raw.decode(errors="replace").strip()
            r.line(line)
            if "BENCH-INIT" in line:
                r.times["boot"] = (at - start) * 1e9
            elif line == "begin":
                began = at
            elif line.startswith("elapsed "):
                took = at - began
            elif "BENCH-IDLE" in line or "BENCH-DONE" in line:
                time.sleep(0.9)
                r.memory[line[6:].lower()] = own_memory(p.pid)
            elif r.times:
                r.memory["busy"] = max(r.memory.get("busy", 0),
                                       own_memory(p.pid))
        p.wait()
    finally:
        watch.cancel()
        p.kill()
        p.wait()
    if "elapsed" not in r.times:
        print("\n".join(r.lines[-10:]), file=sys.stderr)
        sys.exit("bench: the guest did not finish: " + shlex.join(command))
    r.set_clock(r.times.pop("elapsed") / 1e9, took)
    return r


def host_command(files, cpus, works):
    """The same programs in the same folder, on as many CPUs."""
    script = """set -e; r=$1; shift
mount --rbind /dev "$r/dev"; mount -t proc proc "$r/proc" 2>/dev/null || true
mount -t tmpfs tmp "$r/tmp"; cp "$1" "$r/tmp/work"; shift
exec chroot "$r" /tmp/work "$@" """
    enter = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    usable = sorted(os.sched_getaffinity(0))[:cpus]
    return (["taskset", "-c", ",".join(map(str, usable))] + enter +
            ["sh", "-c", script, "sh", files["root"] + "/root",
             files["work"]] + works)


def host(command):
    out = subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                         stdout=subprocess.PIPE, timeout=TIMEOUT)
    r = Run()
    for line in out.stdout.split("\n"):
        r.line(line)
    if r.times.pop("elapsed", None) is None:
        sys.exit("bench: the workloads did not finish on the host")
    return r


def command(name, files, cpus, works):
    make = host_command if name == "host" else functools.partial(
        guest_command, name)
    return make(files, cpus, works)


def run(name, files, cpus, works):
    c = command(name, files, cpus, works)
    return host(c) if name == "host" else guest(c)
