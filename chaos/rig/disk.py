"""Disks of our own: an ext4 image that can lose power, be small, and be checked.

What lives here: images, mounts, the power cut. What does not: deciding when to cut. Everything
happens in a mount namespace of this process (`enter_private_mounts`), so that nothing stays
mounted when it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from rig.verdict import Skipped

# Source: Linux, fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN, and EXT4_GOING_FLAGS_NOLOGFLUSH: what was not
# flushed is gone, the file system's own journal included.
IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

PRIVATE = "CHAOS_PRIVATE_MOUNTS"
TOOLS = ("mkfs.ext4", "mount", "umount", "losetup", "e2fsck", "unshare")


def enter_private_mounts() -> None:
    """Run this program again in a mount namespace of its own; a no-op the second time."""
    if os.environ.get(PRIVATE) or lacking():
        return
    os.environ[PRIVATE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private",
                          sys.executable, *sys.argv])


def lacking() -> str:
    """Why this machine cannot mount images; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "images are mounted on Linux only"
    if os.geteuid() != 0:
        return "mounting needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "no mount namespace may be made"
    if subprocess.run(["losetup", "--find"], capture_output=True).returncode:
        return "there are no loop devices"
    return ""


def tool(*words: str) -> str:
    """Run a system tool; its words on failure."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Image:
    """An ext4 file system in a file, mounted below `folder`."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        """Make and mount it; raises `Skipped` where that is not allowed."""
        why = lacking()
        if why:
            raise Skipped(why)
        self.file = folder / "disk.img"
        self.at = folder / "disk"
        self.at.mkdir(parents=True, exist_ok=True)
        with open(self.file, "wb") as file:
            file.truncate(mebibytes << 20)
        try:
            tool("mkfs.ext4", "-q", "-m", "0", str(self.file))
            self.mount()
        except RuntimeError as error:
            raise Skipped(str(error)) from None

    @property
    def data_dir(self) -> Path:
        """Where a server's data goes."""
        return self.at / "data"

    def mount(self) -> None:
        """Mount; the file system's journal is replayed."""
        tool("mount", "-o", "loop,noatime", str(self.file), str(self.at))

    def unmount(self) -> None:
        """Unmount; what uses it must have ended."""
        tool("umount", str(self.at))

    def cut(self) -> None:
        """The power fails: whatever was not flushed is lost, every later write fails."""
        where = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(where, IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        except OSError as error:
            raise Skipped(f"the file system cannot be shut down: {error}") from None
        finally:
            os.close(where)

    def power_up(self) -> None:
        """Unmount what is left and mount again."""
        self.unmount()
        self.mount()

    def check(self) -> str:
        """The file system's own verdict over the unmounted, recovered image; empty when clean."""
        self.unmount()
        done = subprocess.run(["e2fsck", "-fn", str(self.file)], capture_output=True, text=True)
        self.mount()
        return "" if done.returncode == 0 else done.stdout

    def free_bytes(self) -> int:
        """Bytes that files can still take."""
        about = os.statvfs(self.at)
        return about.f_bavail * about.f_frsize
