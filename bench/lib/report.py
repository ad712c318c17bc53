# SPDX-License-Identifier: BSD-2-Clause
"""Medians, ratios and tables of what was measured."""
import math
import statistics

from .systems import TITLES

# Beside which systems Sublet is put, and which way round the ratio is: above
# one, Sublet is that much slower than the host, or faster than the emulator.
RATIOS = [("host", "sublet/host", True), ("tcg", "TCG/sublet", False),
          ("tcg1", "TCG1/sublet", False), ("interp", "interp/sublet", False)]


def medians(runs):
    """runs: by system a list of rounds, by workload nanoseconds."""
    out = {}
    for system, rounds in runs.items():
        names = {n for r in rounds for n in r}
        out[system] = {n: statistics.median(r[n] for r in rounds if n in r)
                       for n in names}
    return out


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def ratios(times):
    """By system, by workload: how much slower or faster Sublet is."""
    out = {}
    mine = times.get("sublet", {})
    for system, _, slower in RATIOS:
        theirs = times.get(system, {})
        r = {n: mine[n] / theirs[n] if slower else theirs[n] / mine[n]
             for n in mine if n in theirs and mine[n] > 0 and theirs[n] > 0}
        if r:
            out[system] = r
    return out


def show(ns):
    if ns is None:
        return "-"
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= scale:
            return "%.3g %s" % (ns / scale, unit)
    return "%.3g ns" % ns


def row(cells):
    return "| " + " | ".join(cells) + " |"


def ratio_cell(r, system, name):
    return "%.2f" % r[system][name] if name in r.get(system, {}) else "-"


def mean_row(title, groups, names, systems, r):
    cells = ["**%s, geometric mean**" % title] + [""] * len(systems)
    for system, _, _ in RATIOS:
        if system in r:
            v = [r[system][n] for n in names if n in r[system]]
            cells.append("**%.2f**" % geomean(v) if v else "-")
    return row(cells)


def times_table(groups, times):
    """groups: lists of workloads by group, of those that were run."""
    systems = [s for s in TITLES if s in times]
    r = ratios(times)
    heads = (["workload"] + [TITLES[s] for s in systems] +
             [h for s, h, _ in RATIOS if s in r])
    out = [row(heads), "|" + "---|" * len(heads)]
    every = []
    for title, names in groups.items():
        for n in names:
            out.append(row(
                [n] + [show(times[s].get(n)) for s in systems] +
                [ratio_cell(r, s, n) for s, _, _ in RATIOS if s in r]))
        if r and len(names) > 1:
            out.append(mean_row(title, groups, names, systems, r))
        every += names
    if r and len(groups) > 1:
        out.append(mean_row("all", groups, every, systems, r))
    return out


def worst(groups, times):
    """One line for each ratio: the workloads that fare worst."""
    names = [n for g in groups.values() for n in g]
    out = []
    for system, values in ratios(times).items():
        slower = system == "host"
        v = sorted(((x, n) for n, x in values.items() if n in names),
                   reverse=slower)[:5]
        out.append("- %s %s: %s." % (
            "slowest beside the" if slower else "least gain over", (
                TITLES[system]), ", ".join("%s %.2f" % (n, x) for x, n in v)))
    return out


def scaling_table(times):
    systems = [s for s in TITLES if "one" in times.get(s, {})]
    out = [row(["two CPUs"] + [TITLES[s] for s in systems]),
           "|" + "---|" * (len(systems) + 1)]
    for n, title in (("one", "one process"), ("two", "two at once, each")):
        out.append(row([title] + [show(times[s][n]) for s in systems]))
    out.append(row(["two / one"] + ["%.2f" % (
        times[s]["two"] / times[s]["one"]) for s in systems]))
    return out


def memory_table(memory):
    """memory: by system, by moment KiB."""
    moments = [("idle", "after the start, idle"), ("busy", "busy, most seen"),
               ("done", "a second after the work")]
    systems = [s for s in TITLES if memory.get(s)]
    out = [row(["monitor's own memory"] + [TITLES[s] for s in systems]),
           "|" + "---|" * (len(systems) + 1)]
    for key, title in moments:
        out.append(row([title] + [
            "%.1f MiB" % (memory[s][key] / 1024) if key in memory[s] else "-"
            for s in systems]))
    return out
