/* The wrapped child in the measurements: it starts fast, and records the time of what happens to it.
 *
 *   child start OUT        write the time of the first instruction, exit
 *   child launch OUT CMD.. write the time, exec CMD
 *   child wait OUT         write "ready PID"; on SIGUSR1 write the time; on SIGTERM or SIGUSR2 write
 *                          the time to OUT.exit, exit
 *   child stubborn OUT     write "ready PID"; on SIGTERM do nothing (it is not ignored: that would
 *                          show in /proc)
 *   child orphans OUT N    create N orphans that exit at once; write "CPU-NANOSECONDS-OF-PID-1
 *                          NOT-REAPED"
 *
 * Times are nanoseconds of CLOCK_MONOTONIC; a line is written by one write().  The child ends with
 * its parent, and after LIFETIME seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIFETIME = 120, REAP_SECONDS = 30 };

static long long now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int open_out(const char *path, const char *suffix)
{
    char name[4096];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        _exit(3);
    return fd;
}

static void say(int fd, const char *format, long long a, long long b)
{
    char line[64];
    int length = snprintf(line, sizeof line, format, a, b);
    if (write(fd, line, length) != length)
        _exit(4);
}

static int obey(int out, int exit_fd, int stubborn)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    say(out, "ready %lld\n", getpid(), 0);
    for (;;) {
        int signum = sigwaitinfo(&set, NULL);
        long long at = now(CLOCK_MONOTONIC);
        if (signum == SIGUSR1)
            say(out, "%lld\n", at, 0);
        else if (!stubborn && signum > 0) {
            say(exit_fd, "%lld\n", now(CLOCK_MONOTONIC), 0);
            _exit(0);
        }
    }
}

/* Fork twice; the child exits, so the grandchild becomes an orphan of PID 1.  Stores its pid in
 * *orphan. */
static void make_orphan(volatile pid_t *orphan)
{
    pid_t middle = fork();
    if (middle < 0)
        _exit(5);
    if (middle == 0) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        *orphan = pid;
        _exit(pid < 0 ? 5 : 0);
    }
    int status;
    if (waitpid(middle, &status, 0) != middle || status != 0)
        _exit(5);
}

static int orphans(int out, int count)
{
    clockid_t clock; /* the CPU time of PID 1, user and system, in nanoseconds */
    if (clock_getcpuclockid(1, &clock) != 0)
        return 6;
    volatile pid_t *pids = mmap(NULL, count * sizeof *pids, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pids == MAP_FAILED)
        return 6;
    struct timespec pause = {0, 200 * 1000000}; /* until PID 1 is idle, after its late imports */
    for (long long before = -1, cpu; (cpu = now(clock)) != before; before = cpu)
        nanosleep(&pause, NULL);
    long long before = now(clock), end = now(CLOCK_MONOTONIC) + REAP_SECONDS * 1000000000LL;
    for (int i = 0; i < count; i++)
        make_orphan(&pids[i]);
    pause.tv_nsec = 1000000;
    int left = 0;
    for (int i = 0; i < count; i++) { /* a zombie can still be signalled; a reused pid is a later orphan's */
        while (kill(pids[i], 0) == 0 && now(CLOCK_MONOTONIC) < end)
            nanosleep(&pause, NULL);
        left += kill(pids[i], 0) == 0;
    }
    say(out, "%lld %lld\n", now(clock) - before, left);
    return 0;
}

int main(int argc, char **argv)
{
    long long started = now(CLOCK_MONOTONIC);
    if (argc < 3)
        return 2;
    const char *mode = argv[1];
    int out = open_out(argv[2], "");
    if (strcmp(mode, "start") == 0) {
        say(out, "%lld\n", started, 0);
        return 0;
    }
    if (strcmp(mode, "launch") == 0 && argc > 3) {
        say(out, "%lld\n", now(CLOCK_MONOTONIC), 0);
        execv(argv[3], argv + 3);
        return 127;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(LIFETIME);
    if (strcmp(mode, "wait") == 0)
        return obey(out, open_out(argv[2], ".exit"), 0);
    if (strcmp(mode, "stubborn") == 0)
        return obey(out, -1, 1);
    if (strcmp(mode, "orphans") == 0 && argc == 4)
        return orphans(out, atoi(argv[3]));
    return 2;
}
