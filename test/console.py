#!/usr/bin/python3
"""sublet console at a terminal: raw while attached, given back on every way
out, and the machine runs on.

usage: console.py SUBLET NAME   (a machine that echoes what is typed, plus 1)"""
import os
import pty
import select
import signal
import sys
import termios
import time

sublet, name = sys.argv[1:3]


def attach():
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.execv(sublet, [sublet, "console", name])
    return master, slave, before, pid


def wait_for(master, what, seconds=30):
    text, end = b"", time.time() + seconds
    while time.time() < end and what not in text:
        if select.select([master], [], [], 0.1)[0]:
            text += os.read(master, 4096)
    return what in text


def exit_code(pid, seconds=15):
    end = time.time() + seconds
    while time.time() < end:
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def check(test, good):
    print(f"{'ok' if good else 'not ok'} {test}")


master, slave, before, pid = attach()
check("console greets", wait_for(master, b"Ctrl-] q leaves"))
time.sleep(0.3)
check("console is raw", not termios.tcgetattr(slave)[3] & termios.ICANON)
os.write(master, b"\x03")
check("Ctrl-C goes to the machine", wait_for(master, b"\x04"))
os.write(master, b"\x1d\x1d")
check("Ctrl-] twice sends one", wait_for(master, b"\x1e"))
os.write(master, b"\x1dq")
check("Ctrl-] q leaves", exit_code(pid) == 0)
check("terminal restored", termios.tcgetattr(slave) == before)
os.close(master)
os.close(slave)

master, slave, before, pid = attach()
wait_for(master, b"leaves")
time.sleep(0.3)
os.kill(pid, signal.SIGTERM)
check("console ended by a signal", exit_code(pid) == 128 + signal.SIGTERM)
check("terminal restored then too", termios.tcgetattr(slave) == before)
os.close(slave)
os.close(master)

master, slave, before, pid = attach()
wait_for(master, b"leaves")
os.close(slave)
os.close(master)  # the terminal goes away
check("console ends with its terminal", exit_code(pid) is not None)
