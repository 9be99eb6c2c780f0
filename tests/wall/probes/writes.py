"""What a box must not be able to change: the system it runs on, what the host gave it, settings of the kernel."""

from __future__ import annotations

import os
import shutil
import subprocess

from tests.wall.probes.frame import (
    Facts,
    Probe,
    Seen,
    all_of,
    broken,
    creates,
    gains_nothing,
    held,
    opens,
    probe,
    read_some,
)


def cannot_create(name: str, tries: str, *folders: str) -> Probe:
    def run(_: Facts) -> Seen:
        return all_of(folder for folder in folders if creates(folder))

    return Probe(name, tries, run)


def cannot_write(name: str, tries: str, *paths: str) -> Probe:
    def run(_: Facts) -> Seen:
        return all_of(path for path in paths if opens(path, os.O_WRONLY))

    return Probe(name, tries, run)


FOLDERS = (
    cannot_create("the root folder", "make a file in /", "/"),
    cannot_create("etc", "make a file in /etc", "/etc", "/etc/ssl/certs", "/etc/profile.d"),
    cannot_create("programs", "make a file among the programs", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin"),
    cannot_create("libraries", "make a file among the libraries", "/usr/lib", "/usr/local/lib", "/lib64", "/usr/lib64"),
    cannot_create("opt", "make a file beside the agent and the runner", "/opt", "/opt/nanoclaw", "/opt/agent"),
    cannot_create("the runner", "make a file in the runner", "/opt/nanoclaw/nanoclaw/runner", "/opt/nanoclaw/nanoclaw"),
    cannot_create("instructions", "make a file among the host's instructions", "/etc/claude-code"),
    cannot_create("the inbound mailbox", "make a file in the mailbox's inbound half", "/session/in", "/session"),
    cannot_create("the outbound folder", "make a file beside the outbound database", "/session/out"),
    cannot_create("devices", "make a file in /dev", "/dev", "/dev/pts"),
    cannot_create("var", "make a file in /var", "/var", "/var/log", "/var/lib", "/var/cache"),
    cannot_create("run", "make a file in /run", "/run", "/var/run", "/run/lock"),
    cannot_create("home", "make a home beside its own", "/home"),
    cannot_create("sys", "make a file in /sys or a control group", "/sys", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"),
    cannot_create("the probes themselves", "make a file in a folder mounted read-only", "/opt/probes"),
)

FILES = (
    cannot_write("its users", "change who it is", "/etc/passwd", "/etc/group"),
    cannot_write("its names of hosts", "change where names lead", "/etc/hosts", "/etc/nsswitch.conf"),
    cannot_write("the certificates", "change whom programs trust", "/etc/ssl/certs/ca-certificates.crt"),
    cannot_write("the loader", "change what is loaded into programs", "/etc/ld.so.cache", "/etc/ld.so.preload"),
    cannot_write("the runner's code", "change the runner", "/opt/nanoclaw/__main__.py", "/opt/nanoclaw/bin/ncl"),
    cannot_write("what it was told", "change messages that it was sent", "/session/in/inbound.db"),
    cannot_write("its instructions", "change the host's instructions", "/etc/claude-code/CLAUDE.md"),
    cannot_write("the interpreter", "change Python", "/usr/bin/python3", os.__file__),
    cannot_write("the core pattern", "name a program for the host to run at a crash", "/proc/sys/kernel/core_pattern"),
    cannot_write("the module loader", "name a program for the host to run for a module", "/proc/sys/kernel/modprobe"),
    cannot_write("the magic key", "open the magic system request", "/proc/sysrq-trigger", "/proc/sys/kernel/sysrq"),
    cannot_write("the hot plug helper", "name a program for the host to run", "/sys/kernel/uevent_helper"),
    cannot_write("program formats", "register a program format", "/proc/sys/fs/binfmt_misc/register"),
    cannot_write("routing", "make the kernel route", "/proc/sys/net/ipv4/ip_forward"),
    cannot_write("user namespaces", "allow itself namespaces", "/proc/sys/user/max_user_namespaces"),
    cannot_write("interrupts", "move the host's interrupts", "/proc/irq/default_smp_affinity"),
    cannot_write("release agent", "name a program for the host to run", "/sys/fs/cgroup/release_agent",
                 "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/pids/release_agent"),
)  # fmt: skip

# The box's own IPC and pid namespaces: their settings are its own (pid_max since Linux 6.14).
OWN_SETTINGS = ("fs/mqueue/", "kernel/msg", "kernel/shm", "kernel/sem", "kernel/auto_msgmni", "kernel/ns_last_pid",
                "kernel/pid_max")  # fmt: skip


def walk(top: str, limit: int) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(folder, name))]
        found += [os.path.join(folder, name) for name in names]
        if len(found) > limit:
            break
    return found


@probe("find any setting of the kernel that it may change", kernel=True)
def settings_of_the_kernel(_: Facts) -> Seen:
    writable = [path.removeprefix("/proc/sys/") for path in walk("/proc/sys", 20000) if os.access(path, os.W_OK)]
    return all_of([path for path in writable if not path.startswith(OWN_SETTINGS)][:4])


@probe("find any file of /sys that it may change", kernel=True)
def files_of_sys(_: Facts) -> Seen:
    return all_of([path for path in walk("/sys", 5000) if os.access(path, os.W_OK)][:4])


@probe("find any file of the system that it may change")
def files_of_the_system(_: Facts) -> Seen:
    places = ("/usr/bin", "/usr/sbin", "/usr/local", "/etc", "/opt", "/var/lib", "/var/log", "/var/cache")
    found = [path for place in places for path in walk(place, 3000)]
    return all_of([path for path in found if not os.path.islink(path) and os.access(path, os.W_OK)][:4])


@probe("raise its own limits by its control group")
def limits_of_its_control_group(_: Facts) -> Seen:
    names = ("memory.max", "pids.max", "cpu.max", "memory.limit_in_bytes", "cpu.cfs_quota_us", "cgroup.procs", "tasks")
    found = [path for path in walk("/sys/fs/cgroup", 5000) if path.rpartition("/")[2] in names]
    return all_of([path for path in found if os.access(path, os.W_OK)][:3])


@probe("write to a read-only file by opening its descriptor again")
def descriptor_opened_again(_: Facts) -> Seen:
    descriptor = os.open("/etc/passwd", os.O_RDONLY)
    return broken("/etc/passwd") if opens(f"/proc/self/fd/{descriptor}", os.O_RDWR) else held()


@probe("put its own file in the place of a file of the host's")
def rename_over(facts: Facts) -> Seen:
    own = os.path.join(facts["own_folder"], "mine")
    with open(own, "w") as made:
        made.write("x")
    found: list[str] = []
    for target in ("/etc/nanoclaw-wall-none", "/session/in/none", "/opt/nanoclaw/none"):
        try:
            os.rename(own, target)
        except OSError:
            continue
        found.append(target)
        os.rename(target, own)
    return all_of(found)


@probe("give a file of the host a second name in a folder of its own")
def hard_link(facts: Facts) -> Seen:
    found: list[str] = []
    for source in ("/etc/passwd", "/usr/bin/env", "/opt/nanoclaw/__main__.py", facts["secret_open"]):
        target = os.path.join(facts["own_folder"], "second-name")
        try:
            os.link(source, target)
        except OSError:
            continue
        os.unlink(target)
        found.append(source)
    return all_of(found)


@probe("gain another user by a program of its own with the set-user-id bit")
def set_user_id_of_its_own(facts: Facts) -> Seen:
    copy = os.path.join(facts["own_folder"], "id")
    shutil.copy("/usr/bin/id", copy)
    os.chmod(copy, 0o6755)
    said = subprocess.run([copy, "-u"], capture_output=True, text=True)
    os.unlink(copy)
    return held() if said.stdout.strip() == str(os.getuid()) else broken(said.stdout)


@probe("gain root by a set-user-id program of the system")
def set_user_id_of_the_system(_: Facts) -> Seen:
    if gains_nothing():
        return held("no program can gain anything")
    programs = ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd", "/usr/bin/chsh")
    found = [path for path in programs if os.path.exists(path) and os.stat(path).st_mode & 0o4000]
    return all_of(found)


@probe("make itself the last to be ended when memory is short", kernel=True)
def out_of_memory_score(_: Facts) -> Seen:
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("-1000")
    except OSError:
        return held()
    return broken("set to -1000")


@probe("find a mount that should be read-only, or without set-user-id, and is not")
def options_of_mounts(_: Facts) -> Seen:
    lines = (read_some("/proc/self/mountinfo", 1 << 20) or b"").decode().splitlines()
    powerless = gains_nothing()  # then the bit does nothing
    wrong: list[str] = []
    for line in lines:
        fields = line.split()
        target, options = fields[4], fields[5].split(",")
        if target in ("/", "/usr", "/etc/hosts", "/session/in", "/opt/nanoclaw/nanoclaw/runner") and "rw" in options:
            wrong.append(target)
        if target in ("/workspace", "/home/agent", "/tmp") and "nosuid" not in options and not powerless:
            wrong.append(f"{target} allows set-user-id")
    return all_of(wrong)
