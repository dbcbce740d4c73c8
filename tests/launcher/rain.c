/* A child that is signalled and orphaned upon while gracewrap hands it over: its status is the
 * verdict.
 *
 *   rain SIGNALS ORPHANS   print "ready"; wait for SIGTERM and SIGNALS times SIGRTMIN+3, and make
 *                          ORPHANS orphans meanwhile; end with 7 if SIGTERM came once
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void orphan(void)
{
    if (fork() == 0) {
        if (fork() == 0)
            usleep(rand() % 20000); /* exits some time during the handover */
        _exit(0);
    }
}

int main(int argc, char **argv)
{
    int signals = argc > 1 ? atoi(argv[1]) : 0, orphans = argc > 2 ? atoi(argv[2]) : 0;
    int stops = 0, queued = 0;
    struct timespec step = {0, 200000}, last = {20, 0}, settle = {0, 50000000};
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    srand((unsigned)getpid());
    puts("ready");
    fflush(stdout);
    while (!stops || queued < signals || orphans > 0) {
        int got = sigtimedwait(&set, NULL, orphans > 0 ? &step : &last);
        stops += got == SIGTERM;
        queued += got == SIGRTMIN + 3;
        if (got < 0 && orphans <= 0)
            return 9;
        if (orphans-- > 0)
            orphan();
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    while (wait(NULL) > 0) /* what is in between; the orphans are not ours */
        ;
    for (int got; (got = sigtimedwait(&set, NULL, &settle)) > 0;) {
        stops += got == SIGTERM;
        queued += got == SIGRTMIN + 3;
    }
    return stops == 1 && queued == signals ? 7 : 8;
}
