"""Files of the host that a box must not be able to read, by every way to name them."""

from __future__ import annotations

import os
import stat

from tests.wall.probes.frame import Facts, Seen, all_of, broken, call, held, probe, read_some


def look_for(facts: Facts, *paths: str) -> Seen:
    """Broken when a path holds the planted token."""
    return all_of(path for path in paths if facts["token"].encode() in (read_some(path) or b""))


def look_at(*paths: str) -> Seen:
    """Broken when any of these can be read at all."""
    return all_of(f"{path}: {seen[:40]!r}" for path in paths if (seen := read_some(path)))


@probe("read a file of the host that only its owner may read, by its path")
def closed_secret(facts: Facts) -> Seen:
    return look_for(facts, facts["secret_closed"])


@probe("read a file of the host that everybody may read, by its path")
def open_secret(facts: Facts) -> Seen:
    return look_for(facts, facts["secret_open"])


@probe("read it through the root folder of each process it sees")
def secret_by_root_of_processes(facts: Facts) -> Seen:
    roots = [f"/proc/{name}/root" for name in os.listdir("/proc") if name.isdigit()]
    return look_for(facts, *(root + facts["secret_open"] for root in [*roots, "/proc/thread-self/root"]))


@probe("read it through the working folder of each process it sees")
def secret_by_working_folder(facts: Facts) -> Seen:
    up = "/.." * 12
    folders = [f"/proc/{name}/cwd{up}" for name in os.listdir("/proc") if name.isdigit()]
    return look_for(facts, *(folder + facts["secret_open"] for folder in folders))


@probe("read it through a link laid in a folder of its own")
def secret_by_link(facts: Facts) -> Seen:
    link = os.path.join(facts["own_folder"], "link-to-secret")
    os.symlink(facts["secret_open"], link)
    try:
        return look_for(facts, link)
    finally:
        os.unlink(link)


@probe("read it by going up from its folders")
def secret_by_going_up(facts: Facts) -> Seen:
    up = "/.." * 12
    return look_for(facts, *(f"{place}{up}{facts['secret_open']}" for place in ("/workspace", "/home/agent", "/opt")))


@probe("read another group's workspace")
def workspace_of_another_group(facts: Facts) -> Seen:
    return look_for(facts, facts["other_workspace"], facts["other_workspace"] + "/private")


@probe("read another group's conversation (mailbox database)")
def mailbox_of_another_group(facts: Facts) -> Seen:
    return look_for(facts, facts["other_mailbox"])


@probe("read the central store of the host")
def central_store(facts: Facts) -> Seen:
    return look_for(facts, facts["store"])


@probe("read the vault's file")
def vault(facts: Facts) -> Seen:
    return look_for(facts, facts["vault"])


@probe("read a file in the host's /tmp")
def temporary_files_of_the_host(facts: Facts) -> Seen:
    return look_for(facts, facts["temporary"])


@probe("read the host's password hashes")
def password_hashes(_: Facts) -> Seen:
    return look_at("/etc/shadow", "/etc/shadow-", "/etc/gshadow")


@probe("learn the host's users")
def users_of_the_host(facts: Facts) -> Seen:
    names = [line.split(":")[0] for line in (read_some("/etc/passwd", 65536) or b"").decode().splitlines()]
    return all_of(name for name in names if name in facts["host_users"])


@probe("read keys of the host's ssh server")
def ssh_keys(_: Facts) -> Seen:
    folder = "/etc/ssh"
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return look_at(*(f"{folder}/{name}" for name in names if name.startswith("ssh_host_")))


@probe("list the home of root")
def home_of_root(_: Facts) -> Seen:
    return look_at("/root", "/root/.bashrc", "/root/.ssh")


@probe("list homes of other users")
def homes_of_others(_: Facts) -> Seen:
    try:
        return all_of(name for name in os.listdir("/home") if name != "agent" and read_some(f"/home/{name}"))
    except FileNotFoundError:
        return held("there is no /home")


@probe("read the host's kernel and its symbols in /boot")
def boot_files(_: Facts) -> Seen:
    return look_at("/boot", "/vmlinuz", "/initrd.img")


@probe("read a marker in the host's /var/lib and /var/log")
def state_and_logs_of_the_host(facts: Facts) -> Seen:
    return look_for(facts, facts["state"], os.path.dirname(facts["state"]))


@probe("open physical memory")
def physical_memory(_: Facts) -> Seen:
    return all_of(path for path in ("/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore") if os.access(path, os.R_OK))


@probe("find a disk of the host as a device")
def disks(_: Facts) -> Seen:
    found: list[str] = []
    for top, _folders, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(top, name)
            try:
                if stat.S_ISBLK(os.lstat(path).st_mode):
                    found.append(path)
            except OSError:
                continue
    return all_of(found[:5])


@probe("find a device beyond the seven harmless ones and terminals", kernel=True)
def other_devices(_: Facts) -> Seen:
    usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "fd", "core", "stdin", "stdout"}
    usual |= {"stderr", "pts", "shm", "mqueue"}
    found = [name for name in os.listdir("/dev") if name not in usual]
    return all_of(found[:8])


@probe("open devices of virtual machines, networks and file systems (kvm, tun, fuse, vsock, loop)", kernel=True)
def powerful_devices(_: Facts) -> Seen:
    names = ("kvm", "net/tun", "fuse", "vhost-vsock", "vhost-net", "vsock", "loop-control", "mapper/control", "uinput")
    return all_of(name for name in names if os.access(f"/dev/{name}", os.R_OK | os.W_OK))


@probe("read the kernel's own log", kernel=True)
def kernel_log(_: Facts) -> Seen:
    return look_at("/dev/kmsg", "/proc/kmsg")


@probe("learn addresses of the kernel", kernel=True)
def kernel_addresses(_: Facts) -> Seen:
    lines = (read_some("/proc/kallsyms") or b"").splitlines()[:-1]
    return all_of(line[:40] for line in lines[:20] if int(line.split()[0], 16))


@probe("read the kernel's debug and trace files")
def kernel_debug(_: Facts) -> Seen:
    return look_at("/sys/kernel/debug", "/sys/kernel/tracing", "/proc/sched_debug", "/sys/kernel/debug/sched")


@probe("read the firmware's tables and variables")
def firmware(_: Facts) -> Seen:
    return look_at("/sys/firmware/efi", "/sys/firmware/acpi/tables", "/sys/firmware/dmi/tables", "/proc/acpi")


@probe("read timers and locks with names of the host's processes")
def timers_and_locks(facts: Facts) -> Seen:
    shown = (read_some("/proc/timer_list", 65536) or b"") + (read_some("/proc/locks") or b"")
    return all_of(f"{name}" for name in facts["host_commands"] if f"<{name}".encode() in shown)


@probe("see control groups beside its own")
def other_control_groups(facts: Facts) -> Seen:
    found: list[str] = []
    for top, folders, _names in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(top, name) for name in folders if facts["install"] in name or name in facts["cgroups"]]
        if top.count("/") > 5:
            folders.clear()
    return all_of(found[:3])


@probe("learn paths of the host from the list of mounts")
def paths_in_the_list_of_mounts(facts: Facts) -> Seen:
    """What the list names as a mount's root is a path on the host's disk; it must not lead into this home."""
    shown = (read_some("/proc/self/mountinfo", 1 << 20) or b"").decode()
    return broken(shown[:100]) if facts["token"] in shown else held()


@probe("learn the host's name")
def name_of_the_host(facts: Facts) -> Seen:
    names = {os.uname().nodename, (read_some("/etc/hostname") or b"").decode().strip()}
    return all_of(name for name in names if name == facts["hostname"])


@probe("open a file of the host by a handle, past every path")
def file_by_handle(_: Facts) -> Seen:
    handle = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + (2).to_bytes(8, "little")
    folder = os.open("/", os.O_RDONLY)
    result, _error = call((304, 265), folder, handle, 0)
    return broken("the root of the file system") if result >= 0 else held()


@probe("reach a running program of the host by /proc/1/exe")
def program_of_the_first_process(_: Facts) -> Seen:
    return broken("the first process's program can be written") if os.access("/proc/1/exe", os.W_OK) else held()
