/* escape.c: what a build may try to get out, by system calls that no shell makes. One line an attempt: what, and the error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* Kernels refuse some of these in other words, or know them not at all. */
static long refused(long result) {
    if (result < 0 && (errno == EIO || errno == ENOSYS)) errno = EPERM;
    return result;
}

static void tried(const char *what, long result) { printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "WORKS"); }

static long speak(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path + 1, name, length);
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
}

static long by_handle(const char *path) {
    struct {
        struct file_handle head;
        unsigned char rest[MAX_HANDLE_SZ];
    } handle = {.head = {.handle_bytes = MAX_HANDLE_SZ}};
    int mount;
    if (name_to_handle_at(AT_FDCWD, path, &handle.head, &mount, 0) < 0) return -1;
    return open_by_handle_at(open(path, O_RDONLY), &handle.head, O_RDONLY);
}

/* Arguments: a process of the host, an abstract socket of the host. */
int main(int count, char **arguments) {
    if (count < 3) return 2;
    pid_t victim = atoi(arguments[1]);
    char memory[8];
    struct iovec here = {memory, sizeof memory}, there = {(void *)0x400000, sizeof memory};
    tried("trace a host's process", ptrace(PTRACE_ATTACH, victim, 0, 0));
    tried("read its memory", process_vm_readv(victim, &here, 1, &there, 1, 0));
    tried("open a handle of it", syscall(SYS_pidfd_open, victim, 0));
    tried("end it", kill(victim, SIGKILL));
    tried("speak to an abstract socket", speak(arguments[2]));
    tried("open by handle", by_handle("/build"));
    tried("make a memory device", mknod("/build/mem", S_IFCHR | 0666, makedev(1, 1)));
    tried("make a disk device", mknod("/build/disk", S_IFBLK | 0666, makedev(8, 0)));
    tried("become root", setresuid(0, 0, 0));
    tried("become the executor", setresuid(65534, 65534, 65534));
    tried("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    tried("open a file system", syscall(SYS_fsopen, "tmpfs", 0));
    tried("copy a mount", syscall(SYS_open_tree, AT_FDCWD, "/nix/store", OPEN_TREE_CLONE));
    tried("unmount", umount2("/proc", MNT_DETACH));
    tried("push to the terminal", refused(ioctl(1, TIOCSTI, "x")));
    tried("set the clock", settimeofday(&(struct timeval){0, 0}, NULL));
    tried("switch off", reboot(RB_POWER_OFF));
    tried("load a module", refused(syscall(SYS_finit_module, 0, "", 0)));
    tried("read the kernel's log", syscall(SYS_syslog, 2, memory, sizeof memory));
    tried("change the host's name", sethostname("x", 1));
    /* All that it may end is its own: it goes on, for process 1 is deaf to itself. */
    tried("end all", kill(-1, SIGKILL));
    return 0;
}
