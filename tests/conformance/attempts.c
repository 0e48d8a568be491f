/* attempts.c: what a program may try in its sandbox. `attempts TOPIC` writes results to the file named by $report, $out or standard output. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;
static FILE *report;

/* Its sign only: numbers of descriptors and processes say nothing. */
static void tried(const char *what, long result) {
    fprintf(report, "%s: %s\n", what, result < 0 ? strerror(errno) : "-");
    fflush(report);
}

static void topic_terminal(void) {
    struct winsize size = {24, 80, 1, 2};
    struct termios modes;
    struct stat found;
    int number = 1;
    char letter = 'x';
    tried("open again", open("/proc/self/fd/1", O_RDWR));
    tried("then it controls", open("/dev/tty", O_RDWR));
    tried("TIOCSCTTY", ioctl(1, TIOCSCTTY, 0));
    fprintf(report, "foreground group %d session %d\n", tcgetpgrp(1), tcgetsid(1));
    tried("TIOCSTI", ioctl(1, TIOCSTI, &letter));
    tried("TIOCGPTN", ioctl(1, TIOCGPTN, &number));
    tried("TIOCGPTPEER", ioctl(1, _IO('T', 0x41), O_RDWR));
    tried("TIOCPKT", ioctl(1, TIOCPKT, &number));
    tried("set size", ioctl(1, TIOCSWINSZ, &size));
    tried("get size", ioctl(1, TIOCGWINSZ, &size));
    tried("get modes", tcgetattr(1, &modes));
    fprintf(report, "%d %d %d %d line %d:", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel, modes.c_line);
    for (int index = 0; index < 17; index++) fprintf(report, " %d", modes.c_cc[index]);
    fprintf(report, " speed %x %x\n", (unsigned)cfgetispeed(&modes), (unsigned)cfgetospeed(&modes));
    modes.c_lflag |= ECHO | ICANON;
    tried("set modes", tcsetattr(1, TCSANOW, &modes));
    tried("flush", tcflush(1, TCIOFLUSH));
    struct pollfd ready = {1, POLLIN | POLLOUT | POLLHUP, 0};
    tried("poll", poll(&ready, 1, 100));
    fprintf(report, "ready %x\n", ready.revents);
    tried("chmod", fchmod(1, 0666));
    fstat(1, &found);
    fprintf(report, "mode %o owner %u:%u links %d\n", found.st_mode, found.st_uid, found.st_gid, (int)found.st_nlink);
    tried("exclusive", ioctl(1, TIOCEXCL));
    tried("then open", open("/proc/self/fd/1", O_RDWR));
    tried("vhangup", vhangup());
    tried("TIOCNOTTY", ioctl(1, TIOCNOTTY));
    tried("then /dev/tty", open("/dev/tty", O_RDWR));
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    tried("a terminal of its own", master < 0 ? master : grantpt(master) | unlockpt(master));
    int other = master < 0 ? -1 : open(ptsname(master), O_RDWR | O_NOCTTY);
    if (other >= 0 && fstat(other, &found) == 0) fprintf(report, "%s mode %o owner %u:%u\n", ptsname(master), found.st_mode, found.st_uid, found.st_gid);
}

static void put(const char *path, const char *text) {
    int file = open(path, O_WRONLY);
    tried(path, file < 0 ? -1 : write(file, text, strlen(text)));
}

/* As user 0 of a namespace inside of the sandbox. */
static void inside_namespaces(void) {
    static const char *const kinds[] = {"tmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "binfmt_misc", "devtmpfs", "securityfs", "debugfs", "tracefs", "bpf", "configfs", "ext4"};
    fprintf(report, "process %d user %d\n", getpid(), getuid());
    static const char *const directories[] = {"/tmp/m", "/tmp/r", "/tmp/u", "/tmp/w", "/tmp/l"};
    for (int index = 0; index < 5; index++) mkdir(directories[index], 0755);
    tried("private", mount("none", "/", 0, MS_REC | MS_PRIVATE, 0));
    tried("shared", mount("none", "/", 0, MS_REC | MS_SHARED, 0));
    for (size_t index = 0; index < sizeof kinds / sizeof *kinds; index++) {
        tried(kinds[index], mount("none", "/tmp/m", kinds[index], 0, 0));
        umount2("/tmp/m", MNT_DETACH);
    }
    tried("overlay", mount("none", "/tmp/m", "overlay", 0, "lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w"));
    umount2("/tmp/m", MNT_DETACH);
    tried("bind /nix alone", mount("/nix", "/tmp/m", 0, MS_BIND, 0));
    tried("bind /nix", mount("/nix", "/tmp/m", 0, MS_BIND | MS_REC, 0));
    tried("bind /", mount("/", "/tmp/r", 0, MS_BIND | MS_REC, 0));
    tried("read-only", mount("none", "/tmp/r", 0, MS_BIND | MS_REMOUNT | MS_RDONLY, 0));
    tried("unmount /proc", umount2("/proc", MNT_DETACH));
    tried("unmount /dev/shm", umount2("/dev/shm", MNT_DETACH));
    tried("unmount /build", umount2("/build", 0));
    tried("device", mknod("/tmp/null", S_IFCHR | 0666, makedev(1, 3)));
    tried("whiteout", mknod("/tmp/whiteout", S_IFCHR | 0666, 0));
    tried("host name", sethostname("inner", 5));
    tried("chroot", chroot("/tmp"));
    tried("groups", syscall(SYS_setgroups, 0, 0));
    tried("set-user-id", chmod("/u", 04755));
    tried("raw socket", socket(AF_INET, SOCK_RAW, 1));
}

static void topic_namespaces(void) {
    static const struct {
        const char *name;
        int flags;
    } kinds[] = {{"mount", CLONE_NEWNS}, {"time", 0x80}, {"cgroup", CLONE_NEWCGROUP}, {"user and cgroup", CLONE_NEWUSER | CLONE_NEWCGROUP}, {"user and time", CLONE_NEWUSER | 0x80}};
    for (size_t index = 0; index < sizeof kinds / sizeof *kinds; index++) {
        if (fork() == 0) {
            tried(kinds[index].name, unshare(kinds[index].flags));
            _exit(0);
        }
        wait(NULL);
    }
    if (fork() == 0) {
        int made = unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
        tried("all", made);
        if (made != 0) _exit(0);
        put("/proc/self/uid_map", "0 0 1");
        put("/proc/self/uid_map", "0 1000 2");
        put("/proc/self/uid_map", "0 1000 1");
        put("/proc/self/gid_map", "0 100 1");
        put("/proc/self/setgroups", "allow");
        put("/proc/self/setgroups", "deny");
        put("/proc/self/gid_map", "0 100 1");
        if (fork() == 0) {
            inside_namespaces();
            _exit(0);
        }
        wait(NULL);
        int depth = 0;
        while (depth < 40 && unshare(CLONE_NEWUSER) == 0) depth++;
        fprintf(report, "depth %d %s\n", depth, strerror(errno));
        fflush(report);
        _exit(0);
    }
    wait(NULL);
}

/* What can be done with files of one directory. */
static void in_directory(const char *directory) {
    fprintf(report, "== %s\n", directory);
    if (chdir(directory) != 0) return;
    int file = open("f", O_CREAT | O_RDWR, 0644), other = open("g", O_CREAT | O_RDWR, 0644), flags = 0;
    tried("without a name", open(".", O_TMPFILE | O_RDWR, 0600));
    tried("get flags", ioctl(file, FS_IOC_GETFLAGS, &flags));
    flags |= FS_IMMUTABLE_FL;
    tried("immutable", ioctl(file, FS_IOC_SETFLAGS, &flags));
    tried("reserve", fallocate(file, 0, 0, 8192));
    tried("collapse", fallocate(file, 8, 0, 4096));
    tried("clone", ioctl(other, FICLONE, file));
    tried("no replacement", syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", 1));
    tried("exchange", syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", 2));
    static const char *const targets[] = {"h", "/build/linked", "/tmp/linked", "/nix/store/linked", "/dev/shm/linked"};
    for (int index = 0; index < 5; index++) tried(targets[index], link("f", targets[index]));
    tried("move to /tmp", rename("h", "/tmp/moved"));
    tried("move to the store", rename("g", "/nix/store/moved"));
    tried("lease", fcntl(file, F_SETLEASE, F_RDLCK));
    tried("map executable", mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED ? -1 : 0);
    tried("without a time", open("f", O_RDONLY | O_NOATIME));
    struct timespec times[2] = {{5, 123456789}, {7, 987654321}};
    struct stat found;
    utimensat(AT_FDCWD, "f", times, 0);
    stat("f", &found);
    fprintf(report, "nanoseconds %ld links %d\n", found.st_mtim.tv_nsec, (int)found.st_nlink);
    tried("sticky", chmod("f", 01777));
    tried("group of its own", mkdir("d", 02775));
    stat("d", &found);
    fprintf(report, "mode %o\n", found.st_mode);
    tried("own it", chown("f", 1000, 100));
    tried("give it to root", chown("f", 0, 0));
    tried("give it to nobody", chown("f", 65534, -1));
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    tried("name of 256", open(name, O_CREAT | O_RDWR, 0644));
    name[255] = 0;
    tried("name of 255", open(name, O_CREAT | O_RDWR, 0644));
    symlink("f", "link");
    tried("mode of a link", fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW));
    tried("file handle", syscall(SYS_name_to_handle_at, AT_FDCWD, "f", 0, 0, 0));
    FILE *script = fopen("x", "w");
    fprintf(script, "#!/nothing\n");
    fclose(script);
    chmod("x", 0755);
    tried("execute", execl("./x", "x", (char *)0));
}

static void topic_files(void) {
    static const char *const places[] = {"/", "/build", "/tmp", "/nix/store", "/etc", "/dev", "/dev/shm", "/dev/pts", "/dev/null", "/proc", "/bin/sh"};
    for (size_t index = 0; index < sizeof places / sizeof *places; index++) {
        struct statvfs found;
        if (statvfs(places[index], &found) == 0)
            fprintf(report, "%s flags %lx names %lu\n", places[index], (long)found.f_flag, (long)found.f_namemax);
    }
    static const char *const directories[] = {"/build", "/tmp", "/dev/shm", "/nix/store"};
    for (int index = 0; index < 4; index++) in_directory(directories[index]);
    tried("a shell without a time", open("/bin/sh", O_NOATIME));
    tried("remove the shell", unlink("/bin/sh"));
    tried("remove /dev/null", unlink("/dev/null"));
    tried("move /build", rename("/build", "/tmp/b"));
    tried("move /tmp", rename("/tmp", "/x"));
    tried("link in /", symlink("a", "/a"));
    int memory = memfd_create("m", 0);
    dprintf(memory, "#!/nothing\n");
    char *arguments[] = {"m", 0};
    tried("execute memory", syscall(SYS_execveat, memory, "", arguments, environ, AT_EMPTY_PATH));
}

static void topic_network(void) {
    static const int ports[] = {1, 80, 1023, 1024, 65535};
    for (int index = 0; index < 5; index++) {
        struct sockaddr_in address = {AF_INET, htons(ports[index]), {htonl(INADDR_LOOPBACK)}, {0}};
        fprintf(report, "port %d ", ports[index]);
        tried("bind", bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    }
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    static const unsigned addresses[] = {0x08080808, 0xffffffff, 0xe0000001, 0x7f000002};
    for (int index = 0; index < 4; index++) {
        struct sockaddr_in address = {AF_INET, htons(9), {htonl(addresses[index])}, {0}};
        fprintf(report, "%x ", addresses[index]);
        tried("connect", connect(datagrams, (struct sockaddr *)&address, sizeof address));
    }
    struct ip_mreqn group = {{htonl(0xe0000001)}, {htonl(INADDR_ANY)}, 0};
    tried("join a group", setsockopt(datagrams, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(4000)};
    tried("bind ::1", bind(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&six, sizeof six));
    six.sin6_addr.s6_addr[15] = 2;
    tried("bind ::2", bind(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&six, sizeof six));
    struct ifreq device;
    for (int index = 1; index < 10; index++) {
        memset(&device, 0, sizeof device);
        device.ifr_ifindex = index;
        if (ioctl(datagrams, SIOCGIFNAME, &device) != 0) continue;
        fprintf(report, "device %d %s", index, device.ifr_name);
        ioctl(datagrams, SIOCGIFFLAGS, &device);
        fprintf(report, " flags %x", device.ifr_flags);
        ioctl(datagrams, SIOCGIFMTU, &device);
        fprintf(report, " unit %d\n", device.ifr_mtu);
    }
    strcpy(device.ifr_name, "lo");
    device.ifr_flags = 0;
    tried("take it down", ioctl(datagrams, SIOCSIFFLAGS, &device));
    tried("tunnel", open("/dev/net/tun", O_RDWR));
    int pair[2], value = 1;
    struct ucred peer;
    socklen_t size = sizeof peer;
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &size);
    fprintf(report, "peer %d:%d\n", peer.uid, peer.gid);
    tried("mark", setsockopt(datagrams, SOL_SOCKET, SO_MARK, &value, sizeof value));
    tried("one device", setsockopt(datagrams, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
}

static void *sleeps(void *nothing) {
    usleep(20000);
    return nothing;
}

static void topic_processes(void) {
    struct sched_param real_time = {.sched_priority = 1}, none = {0};
    tried("nicer", setpriority(PRIO_PROCESS, 0, 5));
    tried("less nice", setpriority(PRIO_PROCESS, 0, 0));
    tried("batch", sched_setscheduler(0, SCHED_BATCH, &none));
    tried("real time", sched_setscheduler(0, SCHED_FIFO, &real_time));
    tried("session", setsid());
    fprintf(report, "session %d group %d parent %d\n", getsid(0), getpgrp(), getppid());
    tried("all others", kill(-1, 0));
    tried("nobody", kill(99999, 0));
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    tried("more core", setrlimit(RLIMIT_CORE, &limit));
    tried("more memory locked", setrlimit(RLIMIT_MEMLOCK, &limit));
    tried("write and execute", mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
    tried("page zero", mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0);
    pid_t child = fork();
    if (child == 0) {
        tried("traced by a child", ptrace(PTRACE_SEIZE, getppid(), 0, 0));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    int threads = 0, children = 0;
    pthread_t made[200];
    while (threads < 200 && pthread_create(&made[threads], NULL, sleeps, NULL) == 0) threads++;
    for (int index = 0; index < threads; index++) pthread_join(made[index], NULL);
    while (children < 400 && (child = fork()) > 0) children++;
    if (child == 0) {
        pause();
        _exit(0);
    }
    fprintf(report, "threads %d children %d\n", threads, children);
    tried("end them", kill(-1, SIGKILL));
    while (wait(NULL) > 0);
    tried("reaper", prctl(PR_SET_CHILD_SUBREAPER, 1));
    tried("unreadable", prctl(PR_SET_DUMPABLE, 0));
    tried("own memory", open("/proc/self/mem", O_RDWR));
    tried("readable", prctl(PR_SET_DUMPABLE, 1));
    tried("new privileges", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    tried("drop a capability", prctl(PR_CAPBSET_DROP, 21, 0, 0, 0));
    tried("secure bits", prctl(PR_SET_SECUREBITS, 1, 0, 0, 0));
    char name[] = "posix_spawn";
    char *arguments[] = {name, 0};
    int wrong = posix_spawn(&child, "/etc/passwd", NULL, NULL, arguments, environ);
    fprintf(report, "spawn what is no program: %s\n", strerror(wrong));
}

static void topic_addresses(void) {
    int local;
    static int fixed;
    fprintf(report, "program %lx entry %lx runs %s\n", getauxval(AT_PHDR), getauxval(AT_ENTRY), (char *)getauxval(AT_EXECFN));
    fprintf(report, "stack %p fixed %p break %p heap %p map %p environment %p\n", (void *)&local, (void *)&fixed, sbrk(0), malloc(100),
            mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), (void *)environ[0]);
}

static int deeper(int depth) {
    volatile char frame[10000];
    frame[0] = (char)depth;
    return deeper(depth + 1) + frame[0];
}

static void *exits(void *code) {
    usleep(50000);
    exit((int)(long)code);
}

/* Ends of the process, most of them violent. */
static int end(const char *how) {
    pthread_t thread;
    if (strcmp(how, "illegal") == 0) __builtin_trap();
    if (strcmp(how, "address") == 0) return *(volatile int *)8;
    if (strcmp(how, "stack") == 0) return deeper(0);
    if (strcmp(how, "division") == 0) {
        volatile int zero = 0;
        return 1 / zero;
    }
    if (strcmp(how, "bus") == 0) {
        int file = open("/build/b", O_CREAT | O_RDWR, 0644);
        if (ftruncate(file, 1) != 0) return 3;
        char *memory = mmap(0, 1 << 17, 3, MAP_SHARED, file, 0);
        memory[1 << 16] = 1;
    }
    if (strcmp(how, "time") == 0) {
        struct rlimit limit = {1, 1};
        setrlimit(RLIMIT_CPU, &limit);
        for (;;);
    }
    if (strcmp(how, "filter") == 0) {
        struct sock_filter kill[] = {{6, 0, 0, SECCOMP_RET_KILL_PROCESS}};
        struct sock_fprog program = {1, kill};
        return prctl(PR_SET_SECCOMP, 2, &program) != 0 ? 44 : getppid();
    }
    if (strcmp(how, "strict") == 0) return prctl(PR_SET_SECCOMP, 1) != 0 ? 44 : getppid();
    if (strcmp(how, "thread") == 0) {
        pthread_create(&thread, NULL, exits, (void *)21);
        pthread_exit(NULL);
    }
    return atoi(how);
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(void);
    } topics[] = {{"terminal", topic_terminal}, {"namespaces", topic_namespaces}, {"files", topic_files}, {"network", topic_network}, {"processes", topic_processes}, {"addresses", topic_addresses}};
    if (count == 3 && strcmp(arguments[1], "end") == 0) return end(arguments[2]);
    const char *out = getenv("report") ? getenv("report") : getenv("out");
    report = out ? fopen(out, "we") : stdout;
    if (count < 2 || !report) return 2;
    for (size_t index = 0; index < sizeof topics / sizeof *topics; index++) {
        if (strcmp(topics[index].name, arguments[1]) == 0) {
            topics[index].run();
            return fclose(report) ? 1 : 0;
        }
    }
    return 2;
}
