/* probe.c: what a shell cannot ask the kernel. `probe TOPIC` writes facts to the file named by $out, or standard output. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;
static FILE *report;

static void said(const char *what, long result) {
    fprintf(report, "%s: %ld %s\n", what, result, result < 0 ? strerror(errno) : "-");
}

static void topic_environ(void) {
    for (char **entry = environ; *entry; entry++) fprintf(report, "%s\n", *entry);
}

static void topic_processor(void) {
    fprintf(report, "hwcap %lx\nhwcap2 %lx\n", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    fprintf(report, "platform %s\npage %lu\nclock %lu\nsecure %lu\n", platform ? platform : "-", getauxval(AT_PAGESZ),
            getauxval(AT_CLKTCK), getauxval(AT_SECURE));
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    fprintf(report, "processors %ld of %d\n", sysconf(_SC_NPROCESSORS_CONF), CPU_COUNT(&set));
}

static void topic_terminal(void) {
    for (int fd = 0; fd < 3; fd++) {
        struct stat found;
        struct winsize size;
        struct termios modes;
        char name[64];
        fprintf(report, "descriptor %d\n", fd);
        said(" isatty", isatty(fd));
        int wrong = ttyname_r(fd, name, sizeof name);
        fprintf(report, " ttyname %s\n", wrong ? strerror(wrong) : "found");
        fprintf(report, " flags %x %x\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
        if (fstat(fd, &found) == 0)
            fprintf(report, " mode %o owner %u:%u major %u\n", found.st_mode, found.st_uid, found.st_gid, major(found.st_rdev));
        if (ioctl(fd, TIOCGWINSZ, &size) == 0) fprintf(report, " window %u %u\n", size.ws_row, size.ws_col);
        if (tcgetattr(fd, &modes) == 0)
            fprintf(report, " termios %x %x %x %x\n", modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag);
    }
    said("open /dev/tty", open("/dev/tty", O_RDWR));
    said("reopen /dev/stderr", open("/dev/stderr", O_WRONLY | O_APPEND) >= 0 ? 0 : -1);
    fprintf(report, "session leader %d group leader %d parent %d\n", getsid(0) == getpid(), getpgrp() == getpid(), getppid());
}

static void topic_descriptors(void) {
    for (int fd = 0; fd < 4096; fd++) {
        if (fd != fileno(report) && fcntl(fd, F_GETFD) >= 0) fprintf(report, "open %d\n", fd);
    }
}

static void topic_signals(void) {
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        if (sigismember(&blocked, number) == 1) fprintf(report, "blocked %d\n", number);
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL) fprintf(report, "not default %d\n", number);
    }
    said("raise TERM", raise(SIGTERM));
    said("raise KILL", kill(getpid(), SIGKILL));
}

static void topic_process(void) {
    int death = -1, reaper = -1;
    said("get death signal", prctl(PR_GET_PDEATHSIG, &death));
    fprintf(report, "death signal %d\n", death);
    said("get reaper", prctl(PR_GET_CHILD_SUBREAPER, &reaper));
    said("no new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    said("dumpable", prctl(PR_GET_DUMPABLE));
    said("keep capabilities", prctl(PR_GET_KEEPCAPS));
    said("securebits", prctl(PR_GET_SECUREBITS));
    fprintf(report, "personality %x\n", (unsigned)personality(0xffffffff));
    fprintf(report, "ids %d %d %d %d pid %d\n", getuid(), geteuid(), getgid(), getegid(), getpid());
    errno = 0;
    said("priority", getpriority(PRIO_PROCESS, 0));
    fprintf(report, "scheduler %d\n", sched_getscheduler(0));
    mode_t mask = umask(0);
    umask(mask);
    fprintf(report, "umask %o\n", mask);
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    fprintf(report, "core %lu\n", (unsigned long)limit.rlim_cur);
    getrlimit(RLIMIT_STACK, &limit);
    fprintf(report, "stack %lu\n", (unsigned long)limit.rlim_cur);
}

static void topic_modes(void) {
    static const int modes[] = {04755, 02755, 06755, 01755, 0755, 0};
    int file = open("/build/file", O_CREAT | O_RDWR, 0644);
    mkdir("/build/directory", 0755);
    for (int index = 0; index < 6; index++) {
        fprintf(report, "mode %o\n", modes[index]);
        said(" chmod", chmod("/build/file", modes[index]));
        said(" fchmod", fchmod(file, modes[index]));
        said(" fchmodat", fchmodat(AT_FDCWD, "/build/file", modes[index], 0));
        said(" fchmodat2", syscall(452, AT_FDCWD, "/build/file", modes[index], 0));
        said(" chmod of a directory", chmod("/build/directory", modes[index]));
    }
    said("create with set-user-id", open("/build/created", O_CREAT | O_RDWR, 04755) >= 0 ? 0 : -1);
    struct stat found;
    stat("/build/created", &found);
    fprintf(report, "created %o\n", found.st_mode);
    said("chown to root", chown("/build/file", 0, 0));
    said("chown to itself", chown("/build/file", 1000, 100));
    said("chown to another group", chown("/build/file", -1, 65534));
}

static void topic_attributes(void) {
    char value[16];
    int file = open("/build/file", O_CREAT | O_RDWR, 0644);
    said("setxattr", setxattr("/build/file", "user.x", "v", 1, 0));
    said("lsetxattr", lsetxattr("/build/file", "user.x", "v", 1, 0));
    said("fsetxattr", fsetxattr(file, "user.x", "v", 1, 0));
    said("getxattr", getxattr("/build/file", "user.x", value, sizeof value));
    said("lgetxattr", lgetxattr("/build/file", "user.x", value, sizeof value));
    said("fgetxattr", fgetxattr(file, "user.x", value, sizeof value));
    said("listxattr", listxattr("/build/file", value, sizeof value));
    said("removexattr", removexattr("/build/file", "user.x"));
}

static void topic_nodes(void) {
    said("fifo", mknod("/build/fifo", S_IFIFO | 0644, 0));
    said("socket", mknod("/build/socket", S_IFSOCK | 0644, 0));
    said("regular", mknod("/build/regular", S_IFREG | 04755, 0));
    said("null", mknod("/build/null", S_IFCHR | 0644, makedev(1, 3)));
    said("whiteout", mknod("/build/whiteout", S_IFCHR | 0644, makedev(0, 0)));
    said("block", mknod("/build/block", S_IFBLK | 0644, makedev(7, 0)));
}

static void topic_privileges(void) {
    said("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    said("umount", umount2("/proc", MNT_DETACH));
    said("chroot", chroot("/tmp"));
    said("pivot_root", syscall(SYS_pivot_root, ".", "."));
    said("sethostname", sethostname("x", 1));
    said("setuid 0", setuid(0));
    said("setuid 1", setuid(1));
    said("setgroups", syscall(SYS_setgroups, 0, NULL));
    said("unshare net", unshare(CLONE_NEWNET));
    said("settime", syscall(SYS_clock_settime, 0, NULL));
    said("write namespace's last pid", open("/proc/sys/kernel/ns_last_pid", O_WRONLY) >= 0 ? 0 : -1);
    said("write host name", open("/proc/sys/kernel/hostname", O_WRONLY) >= 0 ? 0 : -1);
    said("raw socket", socket(AF_INET, SOCK_RAW, 1));
    said("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
    said("netlink socket", socket(AF_NETLINK, SOCK_RAW, 0) >= 0 ? 0 : -1);
    said("inet6 socket", socket(AF_INET6, SOCK_STREAM, 0) >= 0 ? 0 : -1);
}

/* Files that a shell cannot make, in a tree at $out. */
static void topic_makes(void) {
    const char *out = getenv("out");
    if (!out || mkdir(out, 0755) != 0 || chdir(out) != 0) return;
    said("create with set-user-id", open("created", O_CREAT | O_WRONLY, 06755));
    said("regular with set-user-id", mknod("regular", S_IFREG | 06755, 0));
    said("sticky directory", mkdir("sticky", 01777));
    said("set-group-id directory", mkdir("group", 02755));
    said("closed file", open("closed", O_CREAT | O_WRONLY, 0));
    int without_name = open(".", O_TMPFILE | O_WRONLY, 0755);
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", without_name);
    said("file without a name", without_name >= 0 ? 0 : -1);
    said("its name", linkat(AT_FDCWD, name, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    int holes = open("holes", O_CREAT | O_RDWR, 0644);
    said("write", pwrite(holes, "end", 3, 300000));
    said("reserve", fallocate(holes, FALLOC_FL_KEEP_SIZE, 0, 1000000));
    said("punch", fallocate(holes, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 65536));
    said("symlink", symlink("\001\377/x", "link\377"));
    said("hard link of it", linkat(AT_FDCWD, "link\377", AT_FDCWD, "link", 0));
    said("exchange", syscall(SYS_renameat2, AT_FDCWD, "link", AT_FDCWD, "closed", 2));
    said("whiteout", syscall(SYS_renameat2, AT_FDCWD, "regular", AT_FDCWD, "moved", 4));
    struct timespec times[2] = {{-1000000000, 999999999}, {4000000000, 1}};
    said("times", utimensat(AT_FDCWD, "created", times, 0));
    said("times of a link", utimensat(AT_FDCWD, "closed", times, AT_SYMLINK_NOFOLLOW));
    said("link to an open directory", symlink("/proc/self/cwd", "cwd"));
}

#define CALL(name, ...) said(#name, syscall(SYS_##name, ##__VA_ARGS__) >= 0 ? 0 : -1)

/* System calls that a filter, a privilege or an emulator may refuse. */
static void topic_calls(void) {
    static char zeros[512];
    CALL(keyctl, 0, -3, 0);
    CALL(add_key, "user", "elsewhere", "x", 1, -2);
    CALL(request_key, "user", "elsewhere", 0, 0);
    CALL(bpf, 0, zeros, 64);
    CALL(userfaultfd, 0);
    CALL(process_vm_readv, getpid(), 0, 0, 0, 0, 0);
    CALL(kcmp, getpid(), getpid(), 0, 0, 0);
    CALL(acct, 0);
    CALL(swapoff, "/nothing");
    CALL(reboot, 0, 0, 0, 0);
    CALL(init_module, zeros, 0, "");
    CALL(syslog, 3, zeros, 10);
    CALL(quotactl, 0, 0, 0, 0);
    CALL(settimeofday, zeros, 0);
    CALL(setdomainname, "x", 1);
    CALL(name_to_handle_at, AT_FDCWD, "/", 0, 0, 0);
    CALL(open_by_handle_at, AT_FDCWD, zeros, 0);
    CALL(fanotify_init, 0, 0);
    CALL(inotify_init1, 0);
    CALL(setns, 0, 0);
    CALL(memfd_create, "x", 0);
#ifdef SYS_memfd_secret
    CALL(memfd_secret, 0); /* 32-bit ARM has none. */
#endif
    CALL(mlockall, 0);
    CALL(open_tree, AT_FDCWD, "/", 1);
    CALL(fsopen, "tmpfs", 0);
    CALL(mount_setattr, AT_FDCWD, "/", 0, zeros, 32);
    CALL(pidfd_open, getpid(), 0);
    CALL(membarrier, 0, 0, 0);
    CALL(io_uring_setup, 1, zeros);
    CALL(landlock_create_ruleset, 0, 0, 1);
    CALL(seccomp, 2, 0, zeros);
    CALL(prctl, PR_GET_SECCOMP, 0, 0, 0, 0);
    CALL(clone3, zeros, 64);
    CALL(unshare, CLONE_NEWUSER);
    CALL(unshare, CLONE_NEWNS);
    CALL(chroot, "/");
    CALL(setresuid, 1000, 1000, 1000);
    CALL(setresuid, 0, 0, 0);
    CALL(setfsuid, 0);
    CALL(setpriority, PRIO_PROCESS, 0, -1);
    CALL(ioprio_get, 1, 0);
    CALL(ioprio_set, 1, 0, (1 << 13) | 4);
    CALL(sched_setscheduler, 0, SCHED_FIFO, zeros);
    CALL(perf_event_open, zeros, 0, -1, -1, 0);
    CALL(mincore, zeros, 0, zeros);
    CALL(vhangup);
    CALL(copy_file_range, 0, 0, 1, 0, 0, 0);
    CALL(fchmodat, AT_FDCWD, "/build", 04755);
    CALL(statx, AT_FDCWD, "/", 0, 0, zeros);
    CALL(close_range, 100, 200, 0);
    CALL(epoll_create1, 0);
    CALL(timerfd_create, 0, 0);
    CALL(timer_create, 0, 0, zeros);
    CALL(eventfd2, 0, 0);
    CALL(signalfd4, -1, zeros, 8, 0);
    CALL(getrandom, zeros, 8, 0);
    CALL(shmget, 0, 4096, 0600);
    CALL(msgget, 0, 0600);
    CALL(semget, 0, 1, 0600);
    CALL(mq_open, "x", O_CREAT | O_RDWR, 0600, 0);
    fprintf(report, "timer slack %d\n", prctl(PR_GET_TIMERSLACK));
    fprintf(report, "huge pages %d\n", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    said("seccomp mode", prctl(PR_GET_SECCOMP));
    said("speculation", prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0));
    fprintf(report, "ambient %d\n", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0));
#ifdef __x86_64__
    /* The filter counts for other ways into the kernel, too: chmod of 32-bit programs. */
    static char file[] = "/build/old";
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    close(open(file, O_CREAT | O_RDWR, 0644));
    strcpy(low, file);
    for (int mode = 0755; mode <= 04755; mode += 04000) {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(15), "b"(low), "c"(mode) : "memory", "r8", "r9", "r10", "r11");
        fprintf(report, "32-bit chmod %o: %d\n", mode, result);
    }
    fprintf(report, "x32 chmod: %ld\n", syscall(90 | 0x40000000, file, 04755) < 0 ? (long)-errno : 0L);
#endif
}

/* Sockets of every family, and of the usual types. */
static void topic_sockets(void) {
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET};
    for (int family = 0; family < 46; family++) {
        for (int index = 0; index < 4; index++) {
            int made = socket(family, types[index], 0);
            fprintf(report, "family %d type %d: %s\n", family, types[index], made >= 0 ? "made" : strerror(errno));
            if (made >= 0) close(made);
        }
    }
    struct sockaddr_un abstract = {.sun_family = AF_UNIX};
    memcpy(abstract.sun_path, "\0elsewhere", 10);
    int unix_socket = socket(AF_UNIX, SOCK_STREAM, 0);
    said("bind to an abstract name", bind(unix_socket, (struct sockaddr *)&abstract, offsetof(struct sockaddr_un, sun_path) + 10));
}

/* Every resource limit but those of processes and signals, which count what else the host runs. */
static void topic_limits(void) {
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
        struct rlimit limit;
        if (getrlimit(resource, &limit) != 0) continue;
        fprintf(report, "limit %d: %ld %ld\n", resource, (long)limit.rlim_cur, (long)limit.rlim_max);
    }
    fprintf(report, "arguments %ld\n", sysconf(_SC_ARG_MAX));
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(void);
    } topics[] = {
        {"environ", topic_environ},     {"processor", topic_processor},   {"terminal", topic_terminal}, {"signals", topic_signals},
        {"process", topic_process},     {"modes", topic_modes},           {"attributes", topic_attributes},
        {"nodes", topic_nodes},         {"privileges", topic_privileges}, {"descriptors", topic_descriptors},
        {"makes", topic_makes},         {"calls", topic_calls},           {"sockets", topic_sockets},   {"limits", topic_limits},
    };
    const char *out = getenv("report") ? getenv("report") : getenv("out");
    report = out ? fopen(out, "we") : stdout;
    if (count < 2 || !report) return 2;
    if (strcmp(arguments[1], "crash") == 0) abort();
    if (strcmp(arguments[1], "segfault") == 0) raise(SIGSEGV);
    for (size_t index = 0; index < sizeof topics / sizeof *topics; index++) {
        if (strcmp(topics[index].name, arguments[1]) == 0) {
            topics[index].run();
            return fclose(report) ? 1 : 0;
        }
    }
    return 2;
}
