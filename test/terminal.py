#!/usr/bin/python3
"""sublet run at a terminal: raw while it runs, given back on every way out.

usage: terminal.py SUBLET HALTING-KERNEL"""
import os
import pty
import re
import select
import signal
import sys
import termios
import time

sublet, kernel = sys.argv[1:3]


class Session:
    """A process at a terminal of its own; a shell of ours stays behind it."""

    def __init__(self, *args):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.text = b""
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for fd in (0, 1, 2):
                os.dup2(self.slave, fd)
            os.execv(sublet, [sublet, "run", *args])

    def wait_for(self, pattern, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            if re.search(pattern, self.text):
                return True
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 4096)
        return False

    def end(self, seconds=15):
        """The exit code, -N for a signal, None if it does not end."""
        end = time.time() + seconds
        while time.time() < end:
            self.wait_for(rb"(?!)", 0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        os.close(self.master)
        os.close(self.slave)


def report(name, good, session):
    print(("ok " if good else "not ok ") + name)
    if not good:
        print(session.text.decode(errors="replace")[-500:])


def way_out(name, act, want):
    s = Session("--kernel", kernel, "--net", "none")
    greeted = s.wait_for(rb"Ctrl-\] q leaves")
    time.sleep(0.3)
    raw = s.raw()
    act(s)
    code = s.end()
    report(f"terminal after {name} ({code}, {want})",
           greeted and raw and code == want and s.restored(), s)
    s.close()


def kill(sig):
    return lambda s: os.kill(s.pid, sig)


way_out("escape", lambda s: os.write(s.master, b"\x1dq"), 0)
for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    way_out(sig.name, kill(sig), 128 + sig)
way_out("a crash", kill(signal.SIGABRT), -signal.SIGABRT)

# Stopped and continued from outside.
s = Session("--kernel", kernel, "--net", "none")
s.wait_for(rb"leaves")
time.sleep(0.3)
os.kill(s.pid, signal.SIGTSTP)
time.sleep(0.5)
stopped = s.restored()
os.kill(s.pid, signal.SIGCONT)
time.sleep(0.5)
again = s.raw()
os.write(s.master, b"\x1dq")
report("terminal while stopped", stopped and again and s.end() == 0, s)
s.close()

# A shell in the guest; Ctrl-C is the guest's.
s = Session("tiny")
ready = s.wait_for(rb"tiny:~# ", 100)
os.write(s.master, b"sleep 1000\r")
time.sleep(1)
os.write(s.master, b"\x03")
os.write(s.master, b"echo a$((1 + 1))b; exit\r")
there = s.wait_for(rb"a2b", 20)
code = s.end(30)
report("guest's shell", ready and there and code == 0 and s.restored(), s)
s.close()
