/* The native launcher: holds a plain `gracewrap -- COMMAND` while nothing needs judgement.
 *
 * It spawns the command as linux/spawn.py does, forwards signals, reaps, and exits with the
 * command's status.  It knows no setting and decides nothing: whatever needs judgement (a setting,
 * a terminal, a stop request, something that the command has left behind) is left to Python, which
 * takes this process over by exec, so that pid, children and pending signals stay.  What is known
 * is handed over in a note: lines of text in one argument.
 *
 * When Python has judged the settings and nothing is to be watched, it may leave the process to us
 * again (runtime/return_to_launcher.py), with a note of what to do with which signal until it is
 * needed again.
 *
 * Signals are blocked from the first instruction on and stay blocked, over every exec: as PID 1 one
 * would be lost otherwise (pid_namespaces(7)).  The system calls about sets of signals are made
 * directly, because the functions of the C library hide the signals that it keeps for itself, and
 * musl keeps SIGRTMIN.
 */
#define _GNU_SOURCE
#include "launch.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h> /* clone() */
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SIGNALS = 64,
    KEPT_BY_LIBC = 32, /* and 33: never sent by anybody else */
    LOOK_AT_MOST = 1024, /* processes in one go */
    BACKLOG = 512,
    VISITORS = 8, /* that have said nothing yet */
    MEMORY_NEEDED = 16 << 20, /* bytes, for Python to take over */
    ADDRESS_SPACE_NEEDED = 64 << 20,
};
#define PID_NAMESPACE_OF_THE_HOST "pid:[4026531836]" /* PROC_PID_INIT_INO of linux/proc_ns.h */
/* Times and lengths of time are in nanoseconds, times of CLOCK_MONOTONIC; in notes in seconds. */
#define SECOND INT64_C(1000000000)
#define BUDGET (25 * SECOND) /* the default of shutdown_timeout */
#define AT_ONCE (SECOND / 1000) /* that a child has to end by the stop signal */
#define LATELY (5 * SECOND) /* see report/run_history.py */
#define AFTER_KILL SECOND /* to wait for what cannot be killed */
#define DECIMAL "%lld.%09lld"
#define SECONDS_OF(at) (long long)((at) / SECOND), (long long)((at) % SECOND)
#define EVERY_SIGNAL (~(UINT64_C(3) << (KEPT_BY_LIBC - 1)))

/* What is known of the run. */
static struct {
    char self[4096]; /* our own file */
    char **words; /* what we were started with, after our name */
    pid_t child;
    int64_t since; /* when it was spawned */
    bool ended; /* it has been reaped, */
    int status; /* with this wait status, */
    int64_t ended_at;
    unsigned long orphans, forwarded; /* counted */
    int passed, passed_as; /* the last signal that was forwarded; 0: none was; what was sent */
    int64_t passed_at;
    int asked; /* the signal that asks for the stop, or 0 */
    int64_t asked_at;
    bool told; /* the child has been sent the stop signal */
    int ours, of_child, stat; /* files of /proc, or -1: our children, the child's, the child itself */
    bool in_container;        /* see is_in_container() */
    int control;              /* the control socket, or -1 */
    struct stat control_file;
    char control_path[sizeof((struct sockaddr_un *)0)->sun_path];
    int visitors[VISITORS], visiting; /* connections of it, and how many there are */
} run = {.ours = -1, .of_child = -1, .stat = -1, .control = -1};

/* What Python says of the signals; before that it is as without any setting. */
static struct {
    uint64_t stop_on; /* a bit for each signal that asks for the stop */
    int tell; /* the stop signal, if it may be sent to a child alone before Python comes, or 0 */
    int stop_signal;
    bool to_group;           /* signals are forwarded to the child's group */
    bool is_quiet;           /* nothing is to be said of the child's own exit */
    int instead[SIGNALS + 1]; /* what is sent for a signal: 0: itself, -1: nothing */
    int64_t budget;
} rules = {
    .stop_on = UINT64_C(1) << (SIGTERM - 1) | UINT64_C(1) << (SIGINT - 1),
    .tell = SIGTERM,
    .stop_signal = SIGTERM,
    .is_quiet = true,
    .budget = BUDGET,
};

static char note[8192];
static size_t note_length;

static int64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

/* Write one line to stderr, unless nobody takes it: signals are blocked. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[512] = "gracewrap: ";
    struct pollfd out = {.fd = 2, .events = POLLOUT};
    va_list arguments;
    va_start(arguments, format);
    size_t head = strlen(line);
    vsnprintf(line + head, sizeof line - head - 1, format, arguments);
    va_end(arguments);
    strcat(line, "\n");
    if (poll(&out, 1, 0) == 1 && write(2, line, strlen(line)) < 0)
        return;
}

/* Add to the note. */
__attribute__((format(printf, 1, 2))) static void add(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof note - note_length;
    int length = vsnprintf(note + note_length, room, format, arguments);
    va_end(arguments);
    if (length > 0 && (size_t)length < room)
        note_length += (size_t)length;
}

/* Return what is in a small file, as a string; "" if it cannot be read. */
static char *contents(const char *path)
{
    static char text[16384];
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got;
        while ((got = read(fd, text + length, sizeof text - 1 - length)) > 0)
            length += (size_t)got;
        close(fd);
    }
    text[length] = '\0';
    return text;
}

void mark_self(char *option, size_t size)
{
    struct stat file;
    option[0] = '\0';
    if (stat("/proc/self/exe", &file) == 0) /* run.self may be another file by now */
        snprintf(option, size, "gracewrap_rest=%s %llu %llu %lld.%09ld", VERSION,
                 (unsigned long long)file.st_dev, (unsigned long long)file.st_ino,
                 (long long)file.st_ctim.tv_sec, (long)file.st_ctim.tv_nsec);
}

/* --- the start ------------------------------------------------------------------------------ */

static void block_signals(void)
{
    uint64_t set = EVERY_SIGNAL;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, sizeof set);
}

/* Return whether there is a command and nothing else to be considered. */
static bool is_plain(void)
{
    char us[16];
    snprintf(us, sizeof us, "%d", (int)getpid());
    if (!run.words[0] || strcmp(run.words[0], "--") != 0 || !run.words[1] || !run.words[1][0])
        return false;
    for (char **variable = environ; *variable; variable++) {
        const char *value = strchr(*variable, '=');
        if (!value || value == *variable || strncmp(*variable, "GRACEWRAP_", 10) == 0)
            return false;
        bool names_us = strncmp(*variable, "LISTEN_PID=", 11) == 0
                        || strncmp(*variable, "WATCHDOG_PID=", 13) == 0;
        if (names_us && strcmp(value + 1, us) == 0)
            return false;
    }
    /* In the process group of PID 1, which may be a shell that passes no signal on
       (supervisor/gracewrap/linux/shell_in_front.py). */
    if (getpid() != 1 && getpgrp() == getpgid(1))
        return false;
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty >= 0)
        close(tty);
    return tty < 0;
}

/* Open /dev/null where 0, 1 or 2 is closed, for ourselves only. */
static void fill_standard_fds(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && fd <= 2)
        ;
    if (fd > 2)
        close(fd);
}

/* In the child: execute as posix_spawnp(3) does.  Returns an errno. */
static int execute(char **argv)
{
    static char path[4096 + 256];
    const char *name = argv[0], *directory = getenv("PATH");
    int failed = ENOENT;
    if (strchr(name, '/')) {
        execve(name, argv, environ);
        return errno;
    }
    if (!directory)
        directory = "/bin:/usr/bin";
    for (;;) {
        size_t length = strcspn(directory, ":");
        int written = snprintf(path, sizeof path, "%.*s%s%s", (int)length, directory,
                               length ? "/" : "./", name);
        if (written > 0 && (size_t)written < sizeof path) {
            execve(path, argv, environ);
            if (errno == EACCES || failed != EACCES)
                failed = errno;
            if (errno != EACCES && errno != ENOENT && errno != ENOTDIR && errno != ENODEV
                && errno != ESTALE && errno != ETIMEDOUT)
                return errno;
        }
        if (!directory[length])
            return failed;
        directory += length + 1;
    }
}

static int exec_errno; /* the child shares our memory until its exec */

static int become_the_command(void *argv)
{
    /* The kernel's own struct sigaction, all zero: SIG_DFL.  It has four words at most. */
    const uint64_t by_default[4] = {0};
    struct sigaction hangup;
    const uint64_t none = 0;
    setpgid(0, 0);
    /* An ignored SIGHUP is nohup(1), and meant. */
    sigaction(SIGHUP, NULL, &hangup);
    for (int signum = 1; signum <= SIGNALS; signum++)
        if (signum != SIGHUP || hangup.sa_handler != SIG_IGN)
            syscall(SYS_rt_sigaction, signum, by_default, NULL, sizeof none);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
    exec_errno = execute(argv);
    _exit(127);
}

/* Start the command; false, with nothing changed, if that is impossible.  Not by posix_spawn(3): that
 * of musl leaves SIGRTMIN, which it keeps for itself, unblocked here. */
static bool spawn(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    run.child = clone(become_the_command, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD,
                      run.words + 1);
    run.since = now();
    if (run.child > 0 && exec_errno)
        waitpid(run.child, NULL, 0);
    return run.child > 0 && !exec_errno;
}

/* Close what we have inherited for the child, so that its readers see an end of file. */
static void let_go(void)
{
    if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
        return;
    long most = sysconf(_SC_OPEN_MAX);
    for (int fd = 3; fd < (most < 0 || most > 65536 ? 65536 : (int)most); fd++)
        close(fd);
}

/* --- the control socket, as server/control_socket.py and server/listen.py create it ----------- */

/* Return whether a process listens on a unix socket, or may: only a refusal rules it out. */
static bool is_listening(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool refused = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0
                   && (errno == ECONNREFUSED || errno == ENOENT);
    if (fd >= 0)
        close(fd);
    return !refused;
}

/* Remove the file of a unix socket on which nobody listens; return whether the path is free. */
static bool is_free(const char *path)
{
    struct stat found;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (lstat(path, &found) < 0)
        return errno == ENOENT;
    strcpy(address.sun_path, path);
    return S_ISSOCK(found.st_mode) && !is_listening(&address) && unlink(path) == 0;
}

static bool listen_in(const char *directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int us = (int)getpid();
    int length = snprintf(run.control_path, sizeof run.control_path, "%s/gracewrap-%d.sock",
                          directory, us);
    if (length < 0 || (size_t)length >= sizeof run.control_path)
        return false;
    /* Under another name first: between bind and listen it would look like a stale socket. */
    snprintf(address.sun_path, sizeof address.sun_path, "%s/.gw-%d", directory, us);
    if (!is_free(run.control_path) || !is_free(address.sun_path))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t before = umask(0177);
    bool made = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    umask(before);
    /* SIGIO says that somebody has come. */
    if (made && listen(fd, BACKLOG) == 0 && lstat(address.sun_path, &run.control_file) == 0
        && fcntl(fd, F_SETOWN, us) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC) == 0
        && rename(address.sun_path, run.control_path) == 0) {
        run.control = fd;
        return true;
    }
    if (made)
        unlink(address.sun_path);
    if (fd >= 0)
        close(fd);
    return false;
}

static bool open_control_socket(void)
{
    char own[32];
    snprintf(own, sizeof own, "/run/user/%u", (unsigned)geteuid());
    return listen_in("/run") || listen_in(own) || listen_in("/dev/shm") || listen_in("/tmp");
}

static void close_control_socket(void)
{
    struct stat found;
    if (run.control >= 0 && lstat(run.control_path, &found) == 0
        && found.st_dev == run.control_file.st_dev && found.st_ino == run.control_file.st_ino)
        unlink(run.control_path);
    if (run.control >= 0)
        close(run.control);
    run.control = -1;
}

/* Forget the visitors that have left; return whether one has said something. */
static bool hear_visitors(void)
{
    bool heard = false;
    int staying = 0;
    for (int i = 0; i < run.visiting; i++) {
        char first;
        ssize_t got = recv(run.visitors[i], &first, 1, MSG_PEEK | MSG_DONTWAIT);
        heard |= got > 0;
        if (got > 0 || (got < 0 && errno == EAGAIN))
            run.visitors[staying++] = run.visitors[i];
        else
            close(run.visitors[i]);
    }
    run.visiting = staying;
    return heard;
}

/* Let in who has come to the control socket; return whether somebody is to be answered.  A client
 * that looks which gracewraps there are connects to each, and leaves without a word. */
static bool is_asked(void)
{
    for (;;) {
        int fd = accept4(run.control, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int error = errno;
        if (fd < 0 && error != ECONNABORTED && error != EINTR)
            return hear_visitors() || (error != EAGAIN && error != EBADF);
        if (fd < 0)
            continue;
        fcntl(fd, F_SETOWN, (int)getpid());
        fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
        run.visitors[run.visiting++] = fd;
        if (run.visiting == VISITORS && (hear_visitors() || run.visiting == VISITORS))
            return true;
    }
}

/* --- what there is, as linux/process_tree.py sees it ------------------------------------------ */

/* Open a file of /proc to be read more than once; -1 if that is impossible. */
__attribute__((format(printf, 1, 2))) static int open_proc(const char *format, ...)
{
    char path[64];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path, sizeof path, format, arguments);
    va_end(arguments);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Add the children of the thread that *fd*, of its file, is about to *found*, which has room for
 * *most*; return whether they can be known. */
static bool add_children(int fd, pid_t *found, int most, int *count)
{
    char text[512];
    ssize_t got;
    off_t at = 0;
    int number = 0;
    while ((got = pread(fd, text, sizeof text, at)) > 0) {
        for (ssize_t i = 0; i < got; i++)
            if (isdigit((unsigned char)text[i])) {
                number = number * 10 + (text[i] - '0');
            } else if (number) {
                if (*count < most)
                    found[*count] = number;
                ++*count;
                number = 0;
            }
        at += got;
        if (got < (ssize_t)sizeof text - 16) /* there is room for one more: that was all */
            return true;
    }
    return got == 0;
}

/* Add the children of all threads of a process to *found*, likewise. */
static bool add_all_children(int pid, pid_t *found, int most, int *count)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    bool known = tasks;
    for (struct dirent *entry; tasks && (entry = readdir(tasks));)
        if (isdigit((unsigned char)entry->d_name[0])) {
            int fd = open_proc("/proc/%d/task/%s/children", pid, entry->d_name);
            known &= fd >= 0 && add_children(fd, found, most, count);
            if (fd >= 0)
                close(fd);
        }
    if (tasks)
        closedir(tasks);
    return known;
}

/* Send every process below us a signal, the child itself only if it is *included*. */
static void signal_descendants(int signum, bool included)
{
    static pid_t found[LOOK_AT_MOST];
    int count = 0;
    add_children(run.ours, found, LOOK_AT_MOST, &count);
    for (int i = 0; i < count && i < LOOK_AT_MOST; i++)
        add_all_children(found[i], found, LOOK_AT_MOST, &count);
    for (int i = 0; i < count && i < LOOK_AT_MOST; i++)
        if (included || found[i] != run.child)
            kill(found[i], signum);
}

/* Return the number after *name* in a /proc file, or 0. */
static uint64_t field(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, 10) : 0;
}

/* Return whether the network may go with us: we are in a PID namespace, and not in the host's
 * network (linux/unsent_bytes.py: network_may_go()). */
static bool is_in_container(void)
{
    char space[64];
    ssize_t length = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[length < 0 ? 0 : length] = '\0';
    return length > 0 && strcmp(space, PID_NAMESPACE_OF_THE_HOST) != 0
           && access("/proc/sys/net/core/netdev_max_backlog", F_OK) < 0;
}

/* Return whether the kernel's counts say that no connection is without an owner, or that there is
 * none in our network (linux/unsent_bytes.py: is_ruled_out()). */
static bool has_no_orphans(void)
{
    const char *counts = contents("/proc/net/sockstat");
    return strstr(counts, " orphan ")
           && (!field(counts, " orphan ")
               || (!field(counts, "TCP: inuse ")
                   && !field(contents("/proc/net/sockstat6"), "TCP6: inuse ")));
}

/* Return whether the kernel may still hold bytes of connections that nobody owns any more, which
 * are lost with the network, and so perhaps with us (linux/unsent_bytes.py). */
static bool has_unsent_bytes(void)
{
    char line[512];
    if (!run.in_container || has_no_orphans())
        return false;
    bool unsent = false;
    const char *tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    for (int i = 0; i < 2; i++) {
        FILE *table = fopen(tables[i], "re");
        while (table && !unsent && fgets(line, sizeof line, table)) {
            unsigned state;
            unsigned long bytes, inode;
            /* sl local remote st tx_queue:rx_queue tr:when retrnsmt uid timeout inode (proc(5)) */
            unsent = sscanf(line, "%*s %*s %*s %x %lx:%*x %*s %*s %*s %*s %lu", &state, &bytes,
                            &inode) == 3
                     && (state == 4 || state == 9 || state == 11) && bytes && !inode;
        }
        if (table)
            fclose(table);
    }
    return unsent;
}

/* Return whether there may be too little memory for Python: then its start would have the kernel
 * kill somebody, perhaps the command. */
static bool memory_is_short(void)
{
    struct rlimit space, data;
    if ((getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur < ADDRESS_SPACE_NEEDED)
        || (getrlimit(RLIMIT_DATA, &data) == 0 && data.rlim_cur < MEMORY_NEEDED))
        return true;
    /* Of the cgroup that a container sees as its root, of version 2 or 1; "max" is 0 here.  What was
     * read from files can be had back. */
    static const struct {
        const char *most, *used, *stat, *files;
    } versions[] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat",
         "\nfile "},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
         "/sys/fs/cgroup/memory/memory.stat", "\ntotal_cache "},
    };
    for (int i = 0; i < 2; i++) {
        uint64_t most = strtoull(contents(versions[i].most), NULL, 10);
        uint64_t used = strtoull(contents(versions[i].used), NULL, 10);
        uint64_t files = field(contents(versions[i].stat), versions[i].files);
        if (most && used - (files < used ? files : used) + MEMORY_NEEDED > most)
            return true;
    }
    return false;
}

/* --- the run -------------------------------------------------------------------------------- */

/* Wait for a signal of *set*, until *until*; 0: for ever.  Returns -1 at that time, also if signals
 * keep coming. */
static int wait_for(uint64_t set, siginfo_t *info, int64_t until)
{
    for (;;) {
        int64_t left = until - now();
        if (until && left <= 0)
            return -1;
        struct timespec most = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
        long got = syscall(SYS_rt_sigtimedwait, &set, info, until ? &most : NULL, sizeof set);
        if (got > 0 || errno != EINTR)
            return (int)got;
    }
}

static int exit_status(void)
{
    if (!run.ended)
        return 128 + SIGKILL;
    return WIFSIGNALED(run.status) ? 128 + WTERMSIG(run.status) : WEXITSTATUS(run.status);
}

/* Reap all that has exited; return whether anything is left. */
static bool reap(void)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return pid == 0;
        if (WIFSTOPPED(status))
            continue; /* of one that is traced, by us */
        if (pid == run.child && !run.ended) {
            run.ended = true;
            run.status = status;
            run.ended_at = now();
        } else {
            run.orphans++;
        }
    }
}

/* Return whether a signal is about what we do ourselves (linux/signals.py: is_our_own). */
static bool is_our_own(int signum, const siginfo_t *info)
{
    if (signum == SIGIO || signum == SIGXCPU)
        return info->si_code > 0;
    return (signum == SIGPIPE || signum == SIGXFSZ) && info->si_code == SI_USER
           && info->si_pid == getpid();
}

/* Return whether a signal of our own, as of a stop request, is among those of *set*. */
static bool is_in(uint64_t set, int signum)
{
    return signum > 0 && set >> (signum - 1) & 1;
}

/* Pass a signal on; return false if we may not, which Python may know a way round. */
static bool forward(int signum)
{
    int sent = rules.instead[signum] ? rules.instead[signum] : signum;
    if (sent < 0)
        return true;
    if (!run.ended && kill(rules.to_group ? -run.child : run.child, sent) < 0 && errno == EPERM)
        return false;
    run.forwarded++;
    run.passed = signum;
    run.passed_as = sent;
    run.passed_at = now();
    return true;
}

static void tell_bare(void)
{
    if (!run.told)
        kill(run.child, rules.stop_signal);
    kill(run.child, SIGCONT);
}

/* Python cannot take over: forward, reap, SIGKILL at the deadline (runtime/fallback.py). */
static _Noreturn void stop_bare(void)
{
    bool rest_was_told = false, killed = false;
    int64_t until = run.asked ? run.asked_at + rules.budget : 0;
    say("cannot start Python, which is needed from here on (no memory, or no Python); it only "
        "forwards signals, reaps, and kills in time");
    close_control_socket();
    if (run.asked)
        tell_bare();
    while (reap()) {
        siginfo_t info;
        if (run.ended && !rest_was_told) {
            rest_was_told = true;
            until = until ? until : now() + rules.budget;
            signal_descendants(rules.stop_signal, false);
            signal_descendants(SIGCONT, false);
        }
        int signum = wait_for(EVERY_SIGNAL, &info, until);
        if (signum < 0 && killed)
            break;
        if (signum < 0) {
            killed = true;
            if (getpid() == 1)
                kill(-1, SIGKILL);
            if (!run.ended)
                kill(-run.child, SIGKILL);
            signal_descendants(SIGKILL, true);
            until = now() + AFTER_KILL;
        } else if (is_in(rules.stop_on, signum) && !until) {
            until = now() + rules.budget;
            tell_bare();
        } else if (signum != SIGCHLD && !is_in(rules.stop_on, signum)
                   && !is_our_own(signum, &info)) {
            forward(signum);
        }
    }
    _exit(exit_status());
}

/* Let Python take this process over, with all that is known; *left*: the child has gone, and
 * something is left of it.  Returns whether it may be tried again, if that is impossible. */
static bool try_python(bool left)
{
    add("version %s\n", VERSION);
    add("child %d " DECIMAL "\n", (int)run.child, SECONDS_OF(run.since));
    add("counts %lu %lu\n", run.orphans, run.forwarded);
    add("passed %d " DECIMAL " %d\n", run.passed, SECONDS_OF(run.passed_at), run.passed_as);
    if (run.ended)
        add("ended %d " DECIMAL " %d\n", run.status, SECONDS_OF(run.ended_at), left);
    if (run.control >= 0) {
        add("control %d %llu %llu %s\n", run.control, (unsigned long long)run.control_file.st_dev,
            (unsigned long long)run.control_file.st_ino, run.control_path);
        fcntl(run.control, F_SETFD, 0);
    }
    for (int i = 0; i < run.visiting; i++)
        if (fcntl(run.visitors[i], F_SETFD, 0) == 0)
            add("visitor %d\n", run.visitors[i]);
    if (memory_is_short())
        return true;
    become_python(run.self, note, run.words);
    return python_leaves_no_trace;
}

static _Noreturn void hand_over(bool left)
{
    /* Not needed any more; to find Python takes a descriptor. */
    close(run.of_child);
    close(run.stat);
    try_python(left);
    stop_bare();
}

/* Let Python answer who asks.  If it cannot be had at the moment, they are sent away: nothing else
 * needs it yet, and when a stop does, there may be memory, or the package, again. */
static void answer(void)
{
    static bool was_said;
    if (!try_python(false))
        stop_bare();
    note_length = 0;
    while (run.visiting)
        close(run.visitors[--run.visiting]);
    fcntl(run.control, F_SETFD, FD_CLOEXEC);
    if (!was_said)
        say("cannot start Python to answer gracewrap status and its like (no memory, or no "
            "Python); the command keeps running");
    was_said = true;
}

/* Go on with what Python leaves to us, by its note.  The settings in it are for Python, which finds
 * them where we did. */
static bool resume(const char *line)
{
    char path[sizeof run.control_path];
    long long seconds, rest, device, inode;
    int number, other;
    unsigned long long set;
    for (; line; line = strchr(line, '\n'), line += line != NULL) {
        if (sscanf(line, "child %d %lld.%9lld", &number, &seconds, &rest) == 3) {
            run.child = number;
            run.since = seconds * SECOND + rest;
        } else if (sscanf(line, "passed %d %lld.%9lld %d", &number, &seconds, &rest, &other) == 4) {
            run.passed = number;
            run.passed_at = seconds * SECOND + rest;
            run.passed_as = other;
        } else if (sscanf(line, "control %d %lld %lld %107[^\n]", &number, &device, &inode, path) == 4) {
            run.control = number;
            run.control_file.st_dev = (dev_t)device;
            run.control_file.st_ino = (ino_t)inode;
            strcpy(run.control_path, path);
        } else if (sscanf(line, "budget %lld.%9lld", &seconds, &rest) == 2) {
            rules.budget = seconds * SECOND + rest;
        } else if (sscanf(line, "send %d %d", &number, &other) == 2 && number > 0
                   && number <= SIGNALS) {
            rules.instead[number] = other ? other : -1;
        } else if (sscanf(line, "stop_on %llx", &set) == 1) {
            rules.stop_on = set;
        } else if (sscanf(line, "stop_signal %d %d", &number, &other) == 2) {
            rules.stop_signal = number;
            rules.tell = other ? number : 0;
        } else if (sscanf(line, "how %d %d", &number, &other) == 2) {
            rules.to_group = number;
            rules.is_quiet = other;
        } else {
            sscanf(line, "counts %lu %lu", &run.orphans, &run.forwarded);
        }
    }
    if (run.control >= 0)
        fcntl(run.control, F_SETFD, FD_CLOEXEC);
    return run.child > 0;
}

/* A signal that was passed on may be the reason of the end, which Python explains. */
static bool was_passed_one_lately(void)
{
    return run.passed && run.ended_at - run.passed_at <= LATELY;
}

/* Open what is looked at when a stop is asked for, to find the files then takes four times as long;
 * and find out what would delay the end. */
static void prepare_to_look(void)
{
    int us = (int)getpid(), child = (int)run.child;
    run.ours = open_proc("/proc/%d/task/%d/children", us, us);
    run.of_child = open_proc("/proc/%d/task/%d/children", child, child);
    run.stat = open_proc("/proc/%d/stat", child);
    run.in_container = is_in_container();
}

/* Send the child the stop signal if nobody else can come into question: it has nothing below it.
 * Then this is what the policy does first (policy/stop_signal_recipients.py), and it needs to know
 * only what the child was about to do with the signal.  Else Python has to see all of them before. */
static void tell_the_child(void)
{
    pid_t found[2];
    int count = 0;
    if (!rules.tell || !add_children(run.ours, found, 2, &count) || count != 1 || found[0] != run.child)
        return; /* or /proc is of another namespace */
    char text[1024], *field;
    ssize_t length = pread(run.stat, text, sizeof text - 1, 0);
    text[length < 0 ? 0 : length] = '\0';
    if (!(field = strrchr(text, ')'))) /* the end of its name */
        return;
    uint64_t fields[32] = {0}; /* of proc(5), from the third on; the signals that have a name */
    for (int i = 0; i < 32 && (field = strchr(field, ' ')); i++)
        fields[i] = strtoull(++field, NULL, 10);
    bool known = fields[17] == 1 /* thread */
                     ? add_children(run.of_child, found, 2, &count)
                     : add_all_children(run.child, found, 2, &count);
    if (!known || count != 1 || kill(run.child, rules.tell) < 0)
        return;
    run.told = true;
    int64_t at = now();
    sched_yield(); /* it may have no other CPU */
    add("told %d " DECIMAL " %d %d\n", rules.tell, SECONDS_OF(at),
        is_in(fields[29] | fields[31], rules.tell), /* blocks, or catches */
        is_in(fields[30], rules.tell));
}

/* Return whether the child has ended, and leave it to be reaped. */
static bool child_has_ended(void)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)run.child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

/* Leave the CPU to the child, and note when it ends if that is at once: Python, which takes long to
 * start, would see it late.  It is left to be reaped. */
static void let_it_act(void)
{
    siginfo_t info = {0};
    if (wait_for(UINT64_C(1) << (SIGCHLD - 1), &info, now() + AT_ONCE) != SIGCHLD)
        return;
    int64_t at = now();
    kill(getpid(), SIGCHLD); /* it stays pending */
    if (child_has_ended())
        add("seen_dead " DECIMAL "\n", SECONDS_OF(at));
}

/* A stop is asked for: Python judges it, and sends the stop signal unless that is done already. */
static _Noreturn void stop(int signum, const siginfo_t *info)
{
    char path[64];
    run.asked = signum;
    run.asked_at = now();
    tell_the_child();
    snprintf(path, sizeof path, "/proc/%d/comm", (int)info->si_pid);
    const char *comm = info->si_pid > 0 ? contents(path) : "";
    add("request %d " DECIMAL " %d %u %d %.*s\n", signum, SECONDS_OF(run.asked_at),
        (int)info->si_pid, (unsigned)info->si_uid, info->si_code,
        (int)strcspn(comm, "\n"), comm);
    if (run.told)
        let_it_act();
    hand_over(false);
}

/* Return whether the child has ended and left something that lives.  Then it is not reaped: by its
 * name and its start Python knows its successor. */
static bool is_survived(void)
{
    siginfo_t info;
    /* Linux says ECHILD if there is nobody who could stop any more: zombies only (do_wait()). */
    return child_has_ended()
           && (waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD);
}

static void collect(void)
{
    int64_t at = now();
    if (is_survived()) {
        add("seen_dead " DECIMAL "\n", SECONDS_OF(at));
        hand_over(true);
    }
    bool left = reap();
    if (run.ended
        && (left || WIFSIGNALED(run.status) || !rules.is_quiet || was_passed_one_lately()
            || has_unsent_bytes()))
        hand_over(left);
    if (run.ended) {
        close_control_socket();
        _exit(exit_status());
    }
}

static _Noreturn void look_after(void)
{
    drop_clean_pages();
    for (;;) {
        siginfo_t info;
        int signum = wait_for(EVERY_SIGNAL, &info, 0);
        if (signum == SIGCHLD) {
            collect();
        } else if (is_in(rules.stop_on, signum)) {
            stop(signum, &info);
        } else if (signum > 0 && !is_our_own(signum, &info) && !forward(signum)) {
            kill(getpid(), signum); /* it is fetched once more */
            hand_over(false);
        }
        /* Also if somebody else has sent it: only one SIGIO is kept, and the kernel's may be lost
         * in that one. */
        if (signum == SIGIO && is_asked())
            answer();
    }
}

int main(int argc, char **argv)
{
    block_signals();
    run.words = argc > 0 ? argv + 1 : argv;
    if (readlink("/proc/self/exe", run.self, sizeof run.self - 1) <= 0
        && !realpath((const char *)getauxval(AT_EXECFN), run.self))
        run.self[0] = '\0';
    if (run.words[0] && strcmp(run.words[0], "--rest=" VERSION) == 0
        && resume(getenv("GRACEWRAP_REST"))) {
        run.words++;
        fill_standard_fds();
        prepare_to_look();
        collect();
        look_after();
    }
    if (is_plain()) {
        fill_standard_fds();
        signal(SIGCHLD, SIG_DFL); /* ignored, the kernel would reap our children itself (wait(2)) */
        if (getpid() != 1)
            prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        if (spawn()) {
            let_go();
            if (chdir("/") < 0)
                errno = 0; /* nothing to be done: we pin a directory */
            prepare_to_look();
            if (open_control_socket())
                look_after();
            hand_over(false); /* Python says why */
        }
    }
    /* It says itself what is wrong, and what to do about it. */
    become_python(run.self, NULL, run.words);
    say("cannot start: no Python 3.11 or newer with gracewrap was found beside %s, nor on PATH",
        run.self);
    return 125;
}
