"""The first process of a sandbox: shuts itself in, sets the limits, and becomes the program. Standard library only.

Run as a file, `python -I -S jail.py SETTINGS`, with an empty environment; SETTINGS is JSON, see `Settings` in the
package. `how` says what is left to do: "namespaces", everything; "inside", only the limits, where bubblewrap has built
the walls already or where there are to be none.

Four processes: this one waits outside and writes the maps of users; its child makes the namespaces; the child's child
is the first process of the process namespace, builds the file system and reaps; its child becomes the program. When the
first process of a process namespace ends, the kernel kills all others in it, whatever sessions and names they took.

The file system is empty but for what `binds` names, read-only, a few devices, and a `/tmp` of its own in memory. There
is no /proc. Where this process runs as root, the program runs as nobody, since limits on processes do not bind root.

The descriptor `status` is told "init N", the number of the first process, which is the one to kill; "ok" when the
program starts; or else what went wrong.
"""

import ctypes
import json
import os
import resource
import signal
import sys

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (1 << bit for bit in (17, 25, 26, 27, 28, 29, 30))
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
KEPT = {os.ST_NOSUID: NOSUID, os.ST_NODEV: NODEV, os.ST_NOEXEC: 8, os.ST_NOATIME: 1024, os.ST_RELATIME: 1 << 21}
"""Flags of a mount that a user namespace may not take off it again."""
DETACH, SET_DEATH_SIGNAL, NO_NEW_PRIVILEGES, NOT_DUMPABLE = 2, 1, 38, 4
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR, RECURSIVE = 442, 0x8000
NOBODY = 65534
DEVICES = ("null", "zero", "urandom", "random")
ROOT = "/tmp"
"""Where the new file system is put together; what lies there is hidden in the sandbox alone."""

libc = ctypes.CDLL(None, use_errno=True)


def called(what, result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, data=None):
    texts = (None if text is None else os.fsencode(text) for text in (source, target, kind))
    called(f"mount {target}", libc.mount(*texts, ctypes.c_ulong(flags), None if data is None else data.encode()))


class Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "users")]


def bind(descriptor, target, flags):
    """Show there, with `flags`, what a descriptor stands for, and everything mounted below it."""
    mount(f"/proc/self/fd/{descriptor}", target, flags=BIND | REC)
    wanted = Attributes(flags, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    place = os.fsencode(target)
    if libc.syscall(MOUNT_SETATTR, -100, place, RECURSIVE, ctypes.byref(wanted), size) == 0:
        return
    held = os.statvfs(target).f_flag  # a kernel before 5.12: the top of the tree only
    mount(None, target, flags=REMOUNT | BIND | flags | sum(own for seen, own in KEPT.items() if held & seen))


def build(settings):
    """The file system of the sandbox, and into it. Sources are opened first: the new root may lie over them."""
    opened = {path: os.open(path, os.O_PATH) for path in settings["binds"]}
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in DEVICES}
    inputs = os.open(settings["inputs"], os.O_PATH)
    mount(None, "/", flags=REC | PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for path, target in settings["links"].items():
        os.symlink(target, ROOT + path)
    for path, descriptor in opened.items():
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.makedirs(ROOT + path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(ROOT + path), exist_ok=True)
            os.close(os.open(ROOT + path, os.O_CREAT))
        bind(descriptor, ROOT + path, RDONLY | NOSUID | NODEV)
    os.makedirs(f"{ROOT}/in")
    bind(inputs, f"{ROOT}/in", RDONLY | NOSUID | NODEV)
    os.makedirs(f"{ROOT}/dev")
    for name, descriptor in devices.items():
        os.close(os.open(f"{ROOT}/dev/{name}", os.O_CREAT))
        mount(f"/proc/self/fd/{descriptor}", f"{ROOT}/dev/{name}", flags=BIND)
    os.makedirs(f"{ROOT}/tmp", exist_ok=True)
    mount("tmpfs", f"{ROOT}/tmp", "tmpfs", NOSUID | NODEV, f"size={settings['tmp']},nr_inodes=4096,mode=1777")
    for descriptor in (*opened.values(), *devices.values(), inputs):
        os.close(descriptor)
    os.chdir(ROOT)
    called("pivot_root", libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."))
    called("umount", libc.umount2(b".", DETACH))
    os.chdir("/")
    mount(None, "/", flags=REMOUNT | BIND | RDONLY | NOSUID | NODEV)


def limit(settings):
    for name, value in settings["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def become(settings, status):
    """The program, with the limits, without privileges and without a way to any."""
    limit(settings)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    os.chdir(settings["folder"])
    os.closerange(3, status)
    os.closerange(status + 1, 256)
    os.write(status, b"ok")
    os.set_inheritable(status, False)
    os.execve(settings["argv"][0], settings["argv"], settings["environment"])


def first(settings, status):
    """The first process of the process namespace: builds, starts the program, reaps, ends with it."""
    libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    called("sethostname", libc.sethostname(b"sandbox", 7))
    try:
        with open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    except OSError:
        pass  # where it cannot be set, a namespace within this one can do no more than this one
    build(settings)
    program = os.fork()
    if program == 0:
        if settings["root"]:
            os.setgroups([])
            os.setresgid(1, 1, 1)
            os.setresuid(1, 1, 1)
        become(settings, status)
    os.close(status)
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    while True:
        pid, ended = os.wait()
        if pid == program:
            os._exit(os.waitstatus_to_exitcode(ended) % 256)


def enter(settings, status):
    """The namespaces; the maps of users are written from outside, as root's second entry has to be."""
    up, down = os.pipe(), os.pipe()
    inner = os.fork()
    if inner == 0:
        libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        os.close(up[0])
        os.close(down[1])
        spaces = NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | NEWCGROUP
        called("unshare", libc.unshare(spaces))
        os.write(up[1], b"x")
        if os.read(down[0], 1) != b"x":
            os._exit(1)
        os.close(up[1])
        os.close(down[0])
        pid = os.fork()
        if pid == 0:
            first(settings, status)
        os.write(status, f"init {pid}\n".encode())
        wait_for(pid, status)
    os.close(up[1])
    os.close(down[0])
    if os.read(up[0], 1) == b"x":
        user, group = os.getuid(), os.getgid()
        if not settings["root"]:
            write(f"/proc/{inner}/setgroups", "deny")
        for kind, own in (("uid", user), ("gid", group)):
            text = f"0 {own} 1\n1 {NOBODY} 1" if settings["root"] else f"1000 {own} 1"
            write(f"/proc/{inner}/{kind}_map", text)
        os.write(down[1], b"x")
    wait_for(inner, status)


def wait_for(pid, status):
    os.close(status)
    for descriptor in (0, 1, 2):  # who reads there must see the end when the program ends
        os.close(descriptor)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def main():
    settings = json.loads(sys.argv[1])
    status = settings["status"]
    settings["root"] = os.getuid() == 0
    os.umask(0o022)
    libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # whoever started this waits for it
    try:
        if settings["how"] == "namespaces":
            enter(settings, status)
        become(settings, status)
    except BaseException as error:
        os.write(status, f"{type(error).__name__}: {error}".encode())
        os._exit(1)


if __name__ == "__main__":
    main()
